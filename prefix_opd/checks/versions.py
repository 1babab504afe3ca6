"""Checks of the installed versions against the tested ones."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

from prefix_opd import VERL_VERSION
from prefix_opd.base.processes import python_module, run
from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.checks.preflight import check_verl_version

IMPORT_SECONDS = 600.0
ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"^([\w.-]+)(?:\[[^]]*])?==([^\s;#]+)", re.MULTILINE)


def verl_release(case: Case) -> Finding:
    check_verl_version()
    return ok(f"verl {VERL_VERSION}")


def pinned_packages(case: Case) -> Finding:
    path = ROOT / ("requirements-cpu.txt" if case.config.platform == "cpu" else "requirements.txt")
    if not path.is_file():
        return ok(f"no {path.name} beside this installation to compare with")
    pins = dict(_PIN.findall(path.read_text()))
    other = [f"{name} {have} (tested {want})" for name, want in pins.items() if (have := _installed(name)) != want]
    if other:
        return warn(f"other versions than {path.name} pins: {', '.join(other)}", "run bash scripts/setup.sh")
    return ok(f"{len(pins)} packages as {path.name} pins them")


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def verl_hooks(case: Case) -> Finding:
    """Runs in a separate process, because importing verl takes some 20 seconds and prints."""
    try:
        ran = run(python_module("prefix_opd.verl_plugin.contract", []), IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return fail(f"verl does not import within {IMPORT_SECONDS:g} s", "look at what holds the disk or the CPU")
    if ran.returncode:
        broken = [line for line in ran.stderr.splitlines() if line.strip()]
        return fail(broken[-1] if broken else "verl does not import", f"pip install verl=={VERL_VERSION}")
    return ok("all parts of verl that this package extends have the expected form")
