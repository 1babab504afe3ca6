"""Problems that also occur in an evaluation set: equal text, or shared runs of 13 words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from prefix_opd.base.errors import UserError

RUN_WORDS = 13

_WORD = re.compile(r"[^\W_]+")
_FRACTION = re.compile(r"\\[dt]frac")


@dataclass(frozen=True)
class Match:
    """The evaluation question most similar to a text.

    Example: ``Match("math500#17", equal=False, share=0.8)``: the text contains 80% of the question's 13-word runs.
    """

    where: str
    """data_source#index. The question's text is not reported: GPQA's authors ask to keep it off the web."""
    equal: bool
    share: float
    """0 to 1; 1 for equal text."""


def words_of(text: str) -> list[str]:
    """The words of a text without case, punctuation and LaTeX braces, so that spelling variants compare equal."""
    folded = unicodedata.normalize("NFKC", _FRACTION.sub(r"\\frac", text)).casefold()
    return _WORD.findall(folded)


def runs_of(words: Sequence[str]) -> set[tuple[str, ...]]:
    """All runs of 13 consecutive words. A shorter text has no runs and can only match as equal text."""
    return {tuple(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)}


class EvaluationQuestions:
    """Evaluation questions, indexed by their runs; training must not contain them."""

    def __init__(self, questions: Iterable[tuple[str, str]]):
        """``questions``: (where, text) of each; ``where`` names it in reports."""
        self._equal: dict[tuple[str, ...], str] = {}
        self._with_run: dict[tuple[str, ...], list[str]] = {}
        self._runs: dict[str, int] = {}
        for where, text in questions:
            words = words_of(text)
            if not words:
                continue
            self._equal.setdefault(tuple(words), where)
            runs = runs_of(words)
            self._runs[where] = len(runs)
            for run in runs:
                self._with_run.setdefault(run, []).append(where)

    def match(self, text: str) -> Match | None:
        """The question that equals ``text``, or shares the most runs with it; None without a shared run."""
        words = words_of(text)
        if (where := self._equal.get(tuple(words))) is not None:
            return Match(where, True, 1.0)
        shared = Counter(where for run in runs_of(words) for where in self._with_run.get(run, ()))
        if not shared:
            return None
        # Ties are broken by name, so that the result does not depend on the order of a set.
        share, where = min((-count / self._runs[where], where) for where, count in shared.items())
        return Match(where, False, -share)


def read_evaluation(paths: Sequence[Path]) -> EvaluationQuestions:
    """Reads the questions of prepared evaluation parquet files (verl's RL layout)."""
    return EvaluationQuestions(pair for path in paths for pair in _questions_in(Path(path)))


def _questions_in(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise UserError(f"decontaminate_against={path}", "is not a file", "give the parquet of a prepared set")
    try:
        table = pq.read_table(path, columns=["data_source", "prompt", "extra_info"])
        rows = table.to_pylist()
        found = []
        for index, row in enumerate(rows):
            extra = row["extra_info"] or {}
            # The prompt of a multiple-choice question also has options and an instruction; use the stored question.
            asked = [message["content"] for message in row["prompt"] if message["role"] == "user"]
            found.append((f"{row['data_source']}#{extra.get('index', index)}", extra.get("question") or asked[-1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"decontaminate_against={path}",
            f"is not a parquet in verl's RL layout ({type(error).__name__}: {error})",
            "give a file that this program prepared",
        ) from error
    return found
