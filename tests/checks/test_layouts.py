"""`prefix-opd plan --layouts`, and the hours of the shared layouts."""

import functools
import json
from pathlib import Path

import pytest
from layouts_page import page
from typer.testing import CliRunner

from prefix_opd import cli
from prefix_opd.base.errors import UserError
from prefix_opd.checks import layouts as layouts_module
from prefix_opd.config.compose import compose
from prefix_opd.config.overrides import options
from prefix_opd.cost.plan import plan

pytestmark = pytest.mark.usefixtures("cached_files", "composed_once")


@pytest.fixture(scope="module")
def composed_once():
    """Compose a run with a layout once: it takes a second, and a comparison changes no config."""
    once = functools.cache(lambda *overrides: compose(list(overrides)))
    patch = pytest.MonkeyPatch()
    patch.setattr(layouts_module, "compose", lambda overrides: once(*overrides))
    yield
    patch.undo()


def run(*arguments):
    return CliRunner().invoke(cli.app(), ["plan", *arguments])


def compared(*arguments):
    result = run(*arguments, "--layouts", "--json")
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    return found["fastest"], {row["layout"]: row for row in found["layouts"]}


def test_eight_shared_cards_take_0_62_of_the_hours_of_four_and_four():
    hours = {}
    for layout in ("node_8x80gb", "node_8x80gb_dedicated"):
        found = plan(compose(["experiment=qwen3_8b/schedule", f"layout={layout}"]))
        assert found.run["cards"] == 8 and found.assumptions["accelerator"] == "a100"
        hours[layout] = found.hours
        if layout == "node_8x80gb":
            assert found.memory_gib["host"]["trainer_offloaded"] == 0
    assert hours["node_8x80gb"] <= 0.62 * hours["node_8x80gb_dedicated"]


def test_hours_of_turns_add_up():
    # by FLOP alone: sampling and scoring F each, the update 3 F; F / (8 x 0.08) + F / (8 x 0.25) + 3 F / (8 x 0.35)
    # against F / (4 x 0.08) + 3 F / (4 x 0.35), in which scoring hides behind sampling
    expected = (1 / 0.64 + 1 / 2 + 3 / 2.8) / (1 / 0.32 + 3 / 1.4)
    shared, own = (
        plan(compose(["experiment=qwen3_8b/full", f"layout=node_8x80gb{suffix}"])) for suffix in ("", "_dedicated")
    )
    assert shared.hours / own.hours == pytest.approx(expected)


def test_two_shared_nodes_halve_the_hours():
    one, two = (plan(compose(["experiment=qwen3_8b/full", f"layout={name}"])) for name in ("node_8x80gb", "multi_node"))
    assert two.run["cards"] == 16 and two.run["gpus"] == {"student": 16, "teacher": 16}
    assert two.hours == pytest.approx(one.hours / 2)


def test_the_fastest_layout_for_the_cards_at_hand():
    fastest, rows = compared("experiment=qwen3_8b/schedule", "--gpus", "8")
    assert rows.keys() == set(options("layout"))
    assert fastest == "node_8x80gb"
    assert rows["multi_node"]["problem"] == "needs 16 GPUs"
    assert not rows["node_8x80gb_dedicated"]["problem"] and not rows["one_gpu_offload"]["problem"]
    assert "= 110.8 GiB exceeds 79 GiB of a card" in rows["one_gpu"]["problem"]
    assert "holds no sequence of prompt + response" in rows["one_gpu_24gb"]["problem"]
    times = [row["hours"] for row in rows.values() if not row["problem"]]
    assert times == sorted(times)


def test_of_equal_hours_the_one_that_offloads_less():
    fastest, rows = compared("experiment=qwen3_1.7b/schedule", "--gpus", "1", "--accelerator", "h100")
    assert fastest == "one_gpu"
    assert rows["one_gpu"]["hours"] == rows["one_gpu_offload"]["hours"]
    assert rows["one_gpu"]["host"] < rows["one_gpu_offload"]["host"]


@pytest.mark.parametrize("card", ["l4", "rtx4090"])
def test_a_card_of_24_gb(card):
    fastest, rows = compared("experiment=qwen3_0.6b/schedule", "--gpus", "1", "--accelerator", card)
    assert fastest == "one_gpu_24gb"
    assert "exceeds" in rows["one_gpu"]["problem"]
    # the paper's small pair does not fit: 12 bytes of 1.72e9 weights and a teacher of 15.3 GiB
    assert compared("experiment=qwen3_1.7b/schedule", "--gpus", "1", "--accelerator", card)[0] is None


def test_the_table_names_the_fastest(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("experiment=qwen3_8b/schedule", "--layouts", "--gpus", "8").stdout
    assert "layouts on a100" in shown and "fastest that fits: layout=node_8x80gb\n" in shown
    assert "no layout fits" in run("experiment=qwen3_8b/schedule", "--layouts", "--accelerator", "l4").stdout


def test_the_page_is_up_to_date():
    written = Path(__file__).parents[2] / "docs" / "layouts.md"
    assert written.read_text() == page(), "run `python tests/layouts_page.py > docs/layouts.md`"


def test_a_teacher_elsewhere_has_no_peak(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("experiment=qwen3_8b/schedule", "prefix_opd.teacher.url=http://h:8000/v1", "--layouts")
    assert shown.exit_code == 0, shown.exception
    line = next(line for line in shown.stdout.splitlines() if "node_8x80gb " in line)
    sampling, scoring, update = line.split("│")[4:7]
    assert not scoring.strip() and float(sampling) > 0 and float(update) > 0
    assert line.split("│")[2].strip() == "8 elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layout=two_gpus"], "layout=two_gpus: is one of the layouts that --layouts compares"),
        (["prefix_opd.accelerator=tpu"], "prefix_opd.accelerator=tpu: is not one of a100, h100, h200, l4"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    result = run("experiment=qwen3_8b/schedule", "--layouts", *arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
