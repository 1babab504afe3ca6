"""The known data sets: their location, required columns, and layout."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from prefix_opd.base.errors import UserError


@dataclass(frozen=True)
class Column:
    """A column to read, and the kind of its cells."""

    name: str
    kind: str = "text"
    """One of the keys of ``CELL_KINDS``."""
    required: bool = True
    """An optional column may be absent; if present, its type is checked."""


def _is_text(cell: Any) -> bool:
    """Whether a cell is text that UTF-8 can encode: JSON can contain half of a surrogate pair."""
    try:
        return isinstance(cell, str) and cell.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, int) and not isinstance(cell, bool)


TURN_PARTS = (("from", "value"), ("role", "content"))
"""The keys of speaker and text in public sets: two conventions."""


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
"""Kind -> (its name in errors, the check of one cell)."""


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
    *(Column(f"Incorrect Answer {i}", "text or null") for i in (1, 2, 3)),
    Column("Record ID", required=False),
    Column("High-level domain", required=False),
)
_MMLU_PRO = (
    Column("question"),
    Column("options", "list of text"),
    Column("answer"),
    Column("question_id", "text or whole number", required=False),
    Column("answer_index", "whole number", required=False),
    Column("category", required=False),
)


@dataclass(frozen=True)
class KnownSet:
    """One public data set. The defaults are those of a test set of mathematics."""

    name: str
    """Name on the command line, and ``data_source`` of each row."""
    repo: str
    revision: str
    """Default commit on the hub, from the set's page in 2026; the user may choose another."""
    rows: int
    """Number of rows according to the card; only for the progress bar."""
    stems: tuple[str, ...]
    """Prefixes of the data files' names in a local copy of the repository."""
    layout: str = "maths"
    """The reader in ``layouts.py``: questions, maths, gpqa or mmlu_pro."""
    columns: tuple[Column, ...] = _MATHS
    config: str | None = None
    """Configuration on the hub; None if there is only one."""
    split: str = "test"
    ability: str = "math"
    """verl's ``ability`` field; training questions use their domain instead."""
    purpose: str = "test"
    """train or test: the name of the parquet file."""
    count: int | None = None
    """Default number of problems; None takes all."""
    samples: int = 4
    """Samples per problem in the paper's evaluation."""
    streamed: bool = False
    """Whether the set is streamed because it is too large to store."""
    gated: bool = False
    """Whether the hub requires an account and acceptance of terms."""


_SETS = (
    KnownSet(
        *("openthoughts3", "open-thoughts/OpenThoughts3-1.2M", "61bcf9d4eb38b30295efc2021227a63cc5bb34c8", 1_200_000),
        stems=("train", "openthoughts3"),
        layout="questions",
        columns=(Column("conversations", "turns"), Column("domain")),
        split="train",
        ability="reasoning",
        purpose="train",
        count=30_700,
        streamed=True,
    ),
    KnownSet(
        *("math500", "HuggingFaceH4/MATH-500", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", 500),
        stems=("test", "math500", "math-500"),
    ),
    KnownSet(
        *("aime2024", "HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a", 30),
        stems=("train", "aime2024", "aime_2024", "aime24"),
        split="train",
        samples=16,
    ),
    KnownSet(
        *("aime2025", "math-ai/aime25", "563bb8404243c5f09de6ec262f2db674fe5bce9b", 30),
        stems=("test", "aime2025", "aime_2025", "aime25"),
        samples=16,
    ),
    *(
        KnownSet(
            *(f"gpqa-{part}", "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd", rows),
            stems=(f"gpqa_{part}",),
            layout="gpqa",
            columns=_GPQA,
            config=f"gpqa_{part}",
            split="train",
            ability="science",
            gated=True,
        )
        for part, rows in (("main", 448), ("diamond", 198))
    ),
    KnownSet(
        *("mmlu-pro", "TIGER-Lab/MMLU-Pro", "b189ec765aa7ed75c8acfea42df31fdae71f97be", 12_032),
        stems=("test", "mmlu-pro", "mmlu_pro"),
        layout="mmlu_pro",
        columns=_MMLU_PRO,
        ability="knowledge",
        count=500,
    ),
)

KNOWN: dict[str, KnownSet] = {known.name: known for known in _SETS}
"""Name -> data set."""

DOMAINS = ("math", "code", "science")
"""The domains of OpenThoughts3."""


def lookup(name: str) -> KnownSet:
    """The data set ``name``, ignoring case and the difference between ``_`` and ``-``."""
    folded = name.strip().lower().replace("_", "-")
    if folded in KNOWN:
        return KNOWN[folded]
    nearest = difflib.get_close_matches(folded, KNOWN, n=len(KNOWN), cutoff=0.0)
    raise UserError(f"data set {name!r}", "is not known", f"the known ones, nearest first: {', '.join(nearest)}")
