"""Imports point down: a room imports from rooms below it, and only the adapters import verl, Ray and vLLM."""

import subprocess
import sys

import pytest
from rooms import PACKAGE, arrows, drawing, files, imported, reduced, room_of

ROOMS = (
    *("__init__", "base", "method", "miniature", "grading", "config", "cpu", "data", "run", "smollm2"),
    *("cost", "checks", "evaluation", "verl_plugin", "analysis", "report", "launch", "commands", "cli"),
)
"""From bottom to top."""
ADAPTERS = ("verl_plugin", "cpu")
FOREIGN = {"verl", "ray", "vllm"}


FILES = files()


def test_every_module_stands_in_a_room():
    assert {room_of(path) for path in FILES} == set(ROOMS)
    assert len(list(PACKAGE.glob("*.py"))) <= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = ROOMS.index(room_of(path))
    names = {name.split(".")[1] for name in imported(path) if name.startswith("prefix_opd.")}
    above = {name for name in names & set(ROOMS) if ROOMS.index(name) > here}
    assert not above, f"{path.name} in {ROOMS[here]}/ imports from above: {above}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_adapters_import_verl(path):
    if room_of(path) not in ADAPTERS:
        assert not {name.split(".")[0] for name in imported(path)} & FOREIGN


def test_importable_without_verl():
    """One process for all modules, because each separate import takes seconds."""
    own = (path.relative_to(PACKAGE).with_suffix("") for path in FILES if room_of(path) == "method")
    method = [".".join(path.parts) for path in own if path.name != "__init__"]
    others = ["config.settings", "checks.preflight", "report.summary", "cli", "run.history", "analysis.continuation"]
    program = f"import sys, {', '.join(f'prefix_opd.{name}' for name in method + others)}\n"
    program += f"print(sorted({{name.split('.')[0] for name in sys.modules}} & {FOREIGN}))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stdout + ran.stderr


def test_the_frame_and_the_package_import_neither_of_the_frames_users():
    users = {"benchmarks", "reproduction"}
    for path in [*FILES, *(PACKAGE.parent / "harness").glob("*.py")]:
        assert not {name.split(".")[0] for name in imported(path)} & users, path
    assert not {name.split(".")[0] for path in FILES for name in imported(path)} & {"harness"}


def test_the_drawing_of_the_rooms_is_up_to_date():
    drawn = (PACKAGE.parent / "docs" / "rooms.svg").read_text()
    assert drawn == drawing(arrows()) + "\n", "run `python tests/rooms.py > docs/rooms.svg`"


def test_an_arrow_that_others_imply_is_left_out():
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
