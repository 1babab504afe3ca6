"""The documentation: links lead somewhere, commands parse, and the examples run."""

import re
import shlex
from itertools import groupby
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from prefix_opd.cli import app
from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.method.schedule import SCHEDULES, prefix_lengths

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
BASH = re.compile(r"```bash\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_are_headings(page):
    found = [
        (target, anchor, page.parent / target if target else page)
        for target, anchor in ANCHOR.findall(page.read_text())
    ]
    assert not [(target, anchor) for target, anchor, there in found if anchor not in anchors(there)]


def anchors(page):
    """GitHub's anchors: "## `prefix_opd.loss`, in short" -> prefix_opdloss-in-short."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page):
    for line in "\n".join(BASH.findall(page.read_text())).replace("\\\n", " ").splitlines():
        for is_and, words in groupby(shlex.split(line, comments=True), key="&&".__eq__):
            command = list(words)
            if not is_and and "prefix-opd" in command:
                parse(command[command.index("prefix-opd") + 1 :])
            for word in command:
                kind, _, name = word.partition("=")
                if kind in ("experiment", "layout"):
                    assert (ROOT / f"recipe/prefix_opd/config/{kind}/{name}.yaml").exists(), line


def parse(arguments):
    """Raises click's error for an unknown verb, option or value. Runs nothing."""
    verb = get_command(app())
    while hasattr(verb, "commands"):
        name, *arguments = arguments
        verb = verb.commands[name]
    verb.make_context(name, arguments)


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text())}
    assert set((ROOT / "docs").rglob("*.md")) - linked == {index}


@pytest.fixture
def registries():
    """Restores the registries after the test."""
    kept = [(registry, dict(registry)) for registry in (SCHEDULES, OBJECTIVES)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def test_the_examples_of_the_architecture_page_run(registries):
    page = (ROOT / "docs" / "architecture.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    half = SCHEDULES.build({"name": "half", "least": 3})
    assert prefix_lengths(half, step=1, rows=2, response_length=193) == [96, 96]
    log_p, log_q = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-3.0, -1.5]])
    assert OBJECTIVES["signed"]().advantage(log_p, log_q, torch.ones(1, 2)).tolist() == [[-1.0, 1.0]]
