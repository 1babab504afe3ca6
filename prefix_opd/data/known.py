"""The data sets that we know: where each one lives, which columns it must have, and how it is read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from prefix_opd.base.errors import UserError


@dataclass(frozen=True)
class Column:
    """A column that we read, and what a cell of it may be."""

    name: str
    kind: str = "text"
    """One of the keys of ``CELL_KINDS``."""
    required: bool = True
    """A column that is not required may be absent; where it is present its type is checked all the same."""


def _is_text(cell: Any) -> bool:
    """Text that a file can hold: JSON can spell half of a surrogate pair, which has no UTF-8."""
    try:
        return isinstance(cell, str) and cell.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, int) and not isinstance(cell, bool)


TURN_PARTS = (("from", "value"), ("role", "content"))
"""The two ways in which public sets name speaker and text."""


def _is_turns(cell: Any) -> bool:
    return isinstance(cell, list) and all(
        isinstance(turn, dict) and any(all(_is_text(turn.get(part)) for part in parts) for parts in TURN_PARTS)
        for turn in cell
    )


CELL_KINDS = {
    "text": ("text", _is_text),
    "text or null": ("text", lambda cell: cell is None or _is_text(cell)),
    "whole number": ("a whole number", _is_whole),
    "text or whole number": ("text or a whole number", lambda cell: _is_text(cell) or _is_whole(cell)),
    "list of text": ("a list of text", lambda cell: isinstance(cell, list) and all(map(_is_text, cell))),
    "turns": ("a list of {from, value} or {role, content}, both text", _is_turns),
}
"""Kind -> (how an error names it, the check of one cell)."""


@dataclass(frozen=True)
class KnownSet:
    """One public data set."""

    name: str
    """What the user types, and the ``data_source`` of each row."""
    repo: str
    """Repository on the hub."""
    revision: str
    """The commit on the hub that is read, as the sets' pages named it in 2026; the user may name another."""
    config: str | None
    """Configuration on the hub, or None where there is one alone."""
    split: str
    """Split on the hub."""
    stems: tuple[str, ...]
    """How the data files of this set begin, in a local copy of the repository."""
    columns: tuple[Column, ...]
    """The columns that we read."""
    layout: str
    """The reader in ``layouts.py``: questions, maths, gpqa or mmlu_pro."""
    ability: str
    """verl's ``ability`` field; for training questions their own domain takes its place."""
    purpose: str = "test"
    """train or test: names the parquet file."""
    count: int | None = None
    """Problems taken when the user gives no count; None takes all."""
    samples: int = 1
    """Samples per problem that the paper's evaluation averages over."""
    streamed: bool = False
    """Read in a stream, because the whole is too large to keep."""
    gated: bool = False
    """The hub asks for an account and for consent to terms."""
    rows: int | None = None
    """Rows that the card states; for the progress bar alone."""


_MATHS = (
    Column("problem"),
    Column("answer", "text or whole number"),
    Column("subject", required=False),
    Column("unique_id", required=False),
    Column("id", "text or whole number", required=False),
)
_GPQA = (
    Column("Question"),
    Column("Correct Answer", "text or null"),
    Column("Incorrect Answer 1", "text or null"),
    Column("Incorrect Answer 2", "text or null"),
    Column("Incorrect Answer 3", "text or null"),
    Column("Record ID", required=False),
    Column("High-level domain", required=False),
)

_SETS = (
    KnownSet(
        name="openthoughts3",
        repo="open-thoughts/OpenThoughts3-1.2M",
        revision="61bcf9d4eb38b30295efc2021227a63cc5bb34c8",
        config=None,
        split="train",
        stems=("train", "openthoughts3"),
        columns=(Column("conversations", "turns"), Column("domain")),
        layout="questions",
        ability="reasoning",
        purpose="train",
        count=30_700,
        streamed=True,
        rows=1_200_000,
    ),
    KnownSet(
        name="math500",
        repo="HuggingFaceH4/MATH-500",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        config=None,
        split="test",
        stems=("test", "math500", "math-500"),
        columns=_MATHS,
        layout="maths",
        ability="math",
        samples=4,
        rows=500,
    ),
    KnownSet(
        name="aime2024",
        repo="HuggingFaceH4/aime_2024",
        revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        config=None,
        split="train",
        stems=("train", "aime2024", "aime_2024", "aime24"),
        columns=_MATHS,
        layout="maths",
        ability="math",
        samples=16,
        rows=30,
    ),
    KnownSet(
        name="aime2025",
        repo="math-ai/aime25",
        revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
        config=None,
        split="test",
        stems=("test", "aime2025", "aime_2025", "aime25"),
        columns=_MATHS,
        layout="maths",
        ability="math",
        samples=16,
        rows=30,
    ),
    *(
        KnownSet(
            name=f"gpqa-{part}",
            repo="Idavidrein/gpqa",
            revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
            config=f"gpqa_{part}",
            split="train",
            stems=(f"gpqa_{part}",),
            columns=_GPQA,
            layout="gpqa",
            ability="science",
            samples=4,
            gated=True,
            rows=rows,
        )
        for part, rows in (("main", 448), ("diamond", 198))
    ),
    KnownSet(
        name="mmlu-pro",
        repo="TIGER-Lab/MMLU-Pro",
        revision="b189ec765aa7ed75c8acfea42df31fdae71f97be",
        config=None,
        split="test",
        stems=("test", "mmlu-pro", "mmlu_pro"),
        columns=(
            Column("question"),
            Column("options", "list of text"),
            Column("answer"),
            Column("question_id", "text or whole number", required=False),
            Column("answer_index", "whole number", required=False),
            Column("category", required=False),
        ),
        layout="mmlu_pro",
        ability="knowledge",
        count=500,
        samples=4,
        rows=12_032,
    ),
)

KNOWN: dict[str, KnownSet] = {known.name: known for known in _SETS}
"""Name -> data set."""

DOMAINS = ("math", "code", "science")
"""The domains of OpenThoughts3."""


def lookup(name: str) -> KnownSet:
    """The data set called ``name``; capitals and ``_`` for ``-`` do not matter."""
    folded = name.strip().lower().replace("_", "-")
    if folded in KNOWN:
        return KNOWN[folded]
    nearest = difflib.get_close_matches(folded, KNOWN, n=len(KNOWN), cutoff=0.0)
    raise UserError(f"data set {name!r}", "is not known", f"the known ones, nearest first: {', '.join(nearest)}")
