"""The page ``docs/layouts.md``: the layouts that fit some experiments.

python tests/layouts_page.py > docs/layouts.md
"""

from __future__ import annotations

from prefix_opd.checks.layouts import HEADINGS, compare
from prefix_opd.cost.record import Assumptions

PAGE = (("qwen3_8b/schedule", "a100"), ("qwen3_1.7b/schedule", "a100"), ("qwen3_0.6b/schedule", "l4"))
"""Experiments of the page, and their GPU."""


def page() -> str:
    """The page of the layouts that fit, as Markdown."""
    lines = [
        "# Layouts",
        "",
        "`layout=NAME` says how many GPUs a run uses, and for what. `prefix-opd plan experiment=… --layouts --gpus N`",
        "compares all layouts for a run and N GPUs, names the fastest, and says why another does not fit.",
        "",
        "- GPUs: `own`: the teacher has GPUs of its own. `shared`: it uses the student's, in turns ([gpu.md](gpu.md)).",
        "- hours: FLOP over the GPU's peak times an assumed share by phase. They are arithmetic, not measured.",
        "- sample, score, update: GiB of a GPU at the peak of that phase, of 79 on an A100 and 22 on an L4.",
        "- host: GiB of a node's memory that hold offloaded states and the weights of sleeping teachers. Pinned blocks",
        "  take up to twice that.",
        "",
        "This page is written by `python tests/layouts_page.py > docs/layouts.md`.",
    ]
    for experiment, accelerator in PAGE:
        rows = compare([f"experiment={experiment}"], Assumptions(accelerator=accelerator))
        lines += ["", f"## `{experiment}` on {accelerator.upper()}", "", f"| {' | '.join(HEADINGS)} |"]
        lines += ["|---" * len(HEADINGS) + "|"]
        lines += [f"| `{row.layout}` | {' | '.join(row.cells()[1:])} |" for row in rows if not row.problem]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
