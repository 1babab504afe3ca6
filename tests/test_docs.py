"""The documentation: links lead somewhere, and the examples run."""

import re
from pathlib import Path

import pytest
import torch

from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.method.schedule import SCHEDULES, prefix_lengths

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]


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
