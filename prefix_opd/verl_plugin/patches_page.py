"""Generates docs/patches.md from the table of patches.

python -m prefix_opd.verl_plugin.patches_page > docs/patches.md
"""

from __future__ import annotations

from collections.abc import Iterator

from prefix_opd.base.patching import Patch
from prefix_opd.verl_plugin.patches import PATCHES

_HEAD = """# What is replaced at run time

<!-- Made by `python -m prefix_opd.verl_plugin.patches_page > docs/patches.md`. Edit the table in the code. -->

prefix_opd replaces the functions below in the processes of its own runs. Other programs that use verl in the same
environment keep verl's functions. Lines are those of verl 0.9.1 and vLLM 0.28.

`prefix_opd.patches_off=[NAME,...]` switches patches off. A run needs those that are marked *always on*.

| name | acts on | processes | switch |
|---|---|---|---|
"""


def page() -> str:
    """The whole page, in Markdown."""
    rows = (
        f"| [{patch.name}](#{patch.name}) | {'CPU' if patch.cpu else 'CPU, GPU'} | {patch.processes} | "
        f"{'*always on*' if patch.needed else '`patches_off`'} |\n"
        for patch in PATCHES
    )
    return _HEAD + "".join(rows) + "".join(map(_section, PATCHES))


def _section(patch: Patch) -> str:
    lines = [f"\n## {patch.name}\n", patch.why, "", *_lines(patch), f"- Can go when: {patch.until}"]
    lines.append(f"- Always on: {patch.needed}" if patch.needed else f"- Switched off: {patch.without}")
    if patch.upstream:
        lines.append(f"- Upstream: <{patch.upstream}>")
    return "\n".join(lines) + "\n"


def _lines(patch: Patch) -> Iterator[str]:
    for target in patch.targets:
        how = f"by `{patch.by(target)}`" if target.by else target.when
        yield f"- Replaces `{target.where}` {how}"


if __name__ == "__main__":
    print(page(), end="")
