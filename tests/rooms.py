"""The imports between the rooms of the package, and the drawing ``docs/rooms.svg``.

python tests/rooms.py > docs/rooms.svg
"""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "prefix_opd"
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 108, 28, 22, 34, 16
STYLE = (
    "text{font:13px sans-serif;text-anchor:middle;fill:#1f2328}rect{fill:#f6f8fa;stroke:#59636e}"
    ".adapter{fill:#ddf4ff}path{stroke:#59636e;fill:none;marker-end:url(#tip)}"
)


def imported(path: Path) -> set[str]:
    """The modules that a file imports, including imports inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names |= {part.value.strip(".") for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)}
    return names


def room_of(path: Path) -> str:
    """The folder or module directly under the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    found: dict[str, set[str]] = {room_of(path): set() for path in files() if room_of(path) != "__init__"}
    for path in files():
        if (here := room_of(path)) in found:
            names = {name.split(".")[1] for name in imported(path) if name.startswith("prefix_opd.")}
            found[here] |= (names & set(found)) - {here}
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that a longer path implies: a -> b -> c removes a -> c."""

    def reachable(room: str) -> set[str]:
        return graph[room].union(*(reachable(below) for below in graph[room]))

    return {room: below - set().union(*(reachable(one) for one in below)) for room, below in graph.items()}


def chains(graph: dict[str, set[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of rooms by their longest path to the bottom, top row first, and each arrow as a chain of places.

    An arrow across several rows gets a place in each row between, so that it passes beside the boxes.
    """

    def height(room: str) -> int:
        return 1 + max(map(height, graph[room]), default=-1)

    heights = {room: height(room) for room in graph}
    rows: list[list[str]] = [[] for _ in range(max(heights.values()) + 1)]
    for room in sorted(graph):
        rows[heights[room]].append(room)
    found = []
    for room, below in sorted(reduced(graph).items()):
        for other in sorted(below):
            between = range(heights[room] - 1, heights[other], -1)
            for level in between:
                rows[level].append(f"{room}>{other}")
            found.append([room, *[f"{room}>{other}"] * len(between), other])
    return rows[::-1], found


def places(rows: list[list[str]], found: list[list[str]]) -> tuple[dict[tuple[str, int], float], float]:
    """(name, row) -> middle of the place, and the width of the drawing. The row above determines the order in a row."""
    above: dict[str, list[str]] = {}
    for chain in found:
        for upper, lower in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
    middles: dict[tuple[str, int], float] = {}
    last: dict[str, float] = {}
    for index, row in enumerate(rows):
        wanted = {name: [last[one] for one in above.get(name, []) if one in last] or [0.0] for name in row}
        row.sort(key=lambda name: (sum(wanted[name]) / len(wanted[name]), name))
        widths = [WIDTH if ">" not in name else GAP_X for name in row]
        x = -(sum(widths) + GAP_X * (len(row) - 1)) / 2
        for name, width in zip(row, widths, strict=True):
            middles[name, index] = last[name] = x + width / 2
            x += width + GAP_X
    left = min(middles.values()) - WIDTH / 2 - MARGIN
    return {key: x - left for key, x in middles.items()}, max(middles.values()) + WIDTH / 2 + MARGIN - left


def drawing(graph: dict[str, set[str]], adapters: tuple[str, ...] = ("cpu", "verl_plugin")) -> str:
    """An SVG with one box per room and one arrow per import, except imports that a longer path implies."""
    rows, found = chains(graph)
    middles, width = places(rows, found)
    levels = {name: index for index, row in enumerate(rows) for name in row if ">" not in name}
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height}"'
        f' viewBox="0 0 {width:g} {height}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0L8,4L0,8z" style="fill:#59636e;stroke:none;marker-end:none"/></marker></defs>',
        '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>',
    ]
    for chain in found:
        first = levels[chain[0]]
        points = [(middles[name, first + i], MARGIN + (first + i) * (HEIGHT + GAP_Y)) for i, name in enumerate(chain)]
        path = f"M{points[0][0]:g},{points[0][1] + HEIGHT}"
        for (x, y), (u, v) in itertools.pairwise(points):
            bend = GAP_Y / 2
            path += f"C{x:g},{y + HEIGHT + bend:g} {u:g},{v - bend:g} {u:g},{v - 2}"
            path += f"L{u:g},{v + HEIGHT}" if (u, v) != points[-1] else ""
        lines.append(f'<path d="{path}"/>')
    for room, level in sorted(levels.items()):
        x, y = middles[room, level] - WIDTH / 2, MARGIN + level * (HEIGHT + GAP_Y)
        kind = ' class="adapter"' if room in adapters else ""
        lines.append(f'<rect{kind} x="{x:g}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        lines.append(f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 4:g}">{room}</text>')
    return "\n".join([*lines, "</svg>"])


if __name__ == "__main__":
    print(drawing(arrows()))
