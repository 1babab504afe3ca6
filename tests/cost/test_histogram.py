"""Response lengths from a file."""

import json

import pytest
from typer.testing import CliRunner

from prefix_opd import cli
from prefix_opd.base.errors import UserError
from prefix_opd.cost import arithmetic as cost


@pytest.mark.parametrize("text", ['{"100": 1, "300": 3}', "length,count\n100,1\n300,3\n", "100,1\n300,3"])
def test_a_histogram_of_lengths(tmp_path, text):
    file = tmp_path / ("h.json" if text.startswith("{") else "h.csv")
    file.write_text(text)
    assert cost.lengths_from_file(file).shares == ((100, 0.25), (300, 0.75))
    words = ["experiment=qwen3_8b/prefix_256", "trainer.total_training_steps=1", "--json"]
    result = CliRunner().invoke(cli.app(), ["plan", *words, "--response-histogram", str(file)])
    # 0.25 * 100 + 0.75 * 256
    assert json.loads(result.stdout)["tokens"]["generated"] == 2048 * 217


@pytest.mark.parametrize(("name", "text"), [("h.csv", "100,5\n100,5\n900,5"), ("h.json", '{"100":5,"100":5,"900":5}')])
def test_a_length_that_occurs_twice_counts_twice(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    # 10 of 15, 5 of 15
    assert cost.lengths_from_file(tmp_path / name).shares == ((100, pytest.approx(2 / 3)), (900, pytest.approx(1 / 3)))


BROKEN = ["", "[]", "[[10, 1]]", "nonsense", '{"0": 3}', '{"10": 0}', '{"10": -1}', '{"a": 1}', '{"Infinity": 1}']


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((text, "h.json") for text in [*BROKEN, '{"10": 2, "10": -1}', '{"1' + "0" * 400 + '": 1}']),
        ("100,5\n" + "9" * 131_073 + ",1", "h.csv"),  # longer than a field of Python's csv may be
        ("100,2\n100,-1", "h.csv"),
    ],
)
def test_a_broken_histogram_is_named(tmp_path, text, name):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UserError, match="--response-histogram"):
        cost.lengths_from_file(file)
