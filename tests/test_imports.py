"""Imports point down: a room imports from rooms below it, and only the adapters import verl, Ray and vLLM."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "prefix_opd"
ROOMS = (
    *("__init__", "base", "method", "miniature", "grading", "config", "cpu", "data", "run", "cost", "checks"),
    *("evaluation", "verl_plugin", "analysis", "report", "launch", "commands", "cli"),
)
"""From the ground up."""
ADAPTERS = ("verl_plugin", "cpu")
FOREIGN = {"verl", "ray", "vllm"}


def imported(path: Path) -> set[str]:
    """The modules that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


FILES = sorted(PACKAGE.rglob("*.py"))


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
    """In one process, as each import alone takes seconds."""
    method = [f"method.{path.stem}" for path in FILES if room_of(path) == "method" and path.stem != "__init__"]
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
