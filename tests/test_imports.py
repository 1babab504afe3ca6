"""The mathematics, the schedules and the accounting import no verl; neither does what a mistyped command meets."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "prefix_opd"
ADAPTERS = ("verl_plugin", "cpu")


@pytest.mark.parametrize(
    "module",
    ["schedule", "advantage", "loss", "weighting", "flops", "metrics", "settings", "preflight", "summary", "cli"]
    + ["history", "samples", "analysis.continuation", "report.page"],
)
def test_importable_without_verl(module):
    program = (
        f"import sys, prefix_opd.{module}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'verl', 'ray', 'vllm'}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stdout + ran.stderr


def test_only_the_adapters_name_verl():
    named = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in ADAPTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            named += [f"{path.name}: {name}" for name in names if name.split(".")[0] in ("verl", "ray", "vllm")]
    assert not named
