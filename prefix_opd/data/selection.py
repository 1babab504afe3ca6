"""Select the problems in one pass over the source; only the sample is kept in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from prefix_opd.base.errors import UserError
from prefix_opd.data.known import KnownSet
from prefix_opd.data.layouts import ANSWERER, Problem, read_problem, turn
from prefix_opd.data.sampling import SmallestKeys, key_of
from prefix_opd.data.screen import Screen, Screened
from prefix_opd.data.settings import PrepareSettings
from prefix_opd.data.source import Source

MATCHES_LISTED = 50


@dataclass
class Chosen:
    """A problem in the sample."""

    problem: Problem
    finding: Screened
    responses: SmallestKeys[None]
    """Keys of the responses to keep."""


@dataclass
class Selection:
    chosen: dict[int, Chosen] = field(default_factory=dict)
    """Key -> problem. Training questions are in the seed's random order, evaluation problems in the source's order."""
    left_out: list[Screened] = field(default_factory=list)
    """Results for the problems that only the screen excludes from the sample."""
    rows_read: int = 0
    rows_without_question: int = 0
    distinct: int = 0
    """Number of distinct questions in the requested domains."""

    def counts(self, screen: Screen) -> dict[str, Any]:
        inside = [chosen.finding for chosen in self.chosen.values()]
        return {
            "rows_read": self.rows_read,
            "rows_without_question": self.rows_without_question,
            "distinct_questions": self.distinct,
            "selected": len(self.chosen),
            "by_category": dict(sorted(Counter(chosen.problem.category for chosen in self.chosen.values()).items())),
            "kept": _figures(inside, screen),
            "left_out": _figures(self.left_out, screen),
        }


def _figures(findings: list[Screened], screen: Screen) -> dict[str, Any]:
    matches = [finding.match for finding in findings if finding.match is not None]
    lengths = [finding.tokens for finding in findings if finding.tokens is not None]
    listed = sorted(matches, key=lambda match: (-match.equal, -match.share, match.where))[:MATCHES_LISTED]
    return {
        "problems": len(findings),
        "longest_prompt_tokens": max(lengths, default=None),
        "long_prompts": sum(map(screen.is_long, findings)),
        "equal_to_evaluation": sum(match.equal for match in matches),
        "sharing_13_words_with_evaluation": len(matches),
        "duplicates_of_evaluation": sum(map(screen.is_duplicate, findings)),
        "matches": [{"with": m.where, "equal": m.equal, "share": round(m.share, 4)} for m in listed],
    }


def _key(known: KnownSet, problem: Problem, seed: int) -> int:
    # Training counts rows with the same question as one; an evaluation set keeps every row.
    place = () if known.layout == "questions" else (str(problem.index),)
    return key_of(seed, problem.question, *place)


def select(settings: PrepareSettings, source: Source, screen: Screen) -> Selection:
    """Read the source once and select. The screen checks each problem that would enter the sample."""
    known, selection = settings.known, Selection()
    sample: SmallestKeys[Chosen] = SmallestKeys(settings.problems)
    refused: dict[int, Screened] = {}
    seen: set[int] = set()
    bar = tqdm(source.rows(), known.name, source.total, unit=" rows", disable=None)
    for index, row in enumerate(bar):
        selection.rows_read += 1
        problem = read_problem(known, row, index, settings.seed)
        if not problem.question:
            selection.rows_without_question += 1
            continue
        if settings.domains and problem.category not in settings.domains:
            continue
        key = _key(known, problem, settings.seed)
        seen.add(key)
        if key not in sample:
            if key in refused or not sample.would_hold(key):
                continue
            finding = screen.look(problem)
            if screen.drops(finding):
                refused[key] = finding
                continue
            # A question of the final sample is held from its first row on, so all its responses are offered.
            sample.offer(key, lambda: Chosen(problem, finding, SmallestKeys(settings.responses_per_question)))  # noqa: B023
        if settings.responses_per_question and (response := turn(row, ANSWERER)):
            sample[key].responses.offer(key_of(settings.seed, problem.question, response), lambda: None)
    selection.distinct = len(seen)
    selection.left_out = [finding for key, finding in sorted(refused.items()) if key <= sample.bar]
    _check_enough(settings, selection, len(sample))
    pairs = sample.items()
    if known.purpose == "test":
        pairs.sort(key=lambda pair: pair[1].problem.index)
    selection.chosen = dict(pairs)
    return selection


def _check_enough(settings: PrepareSettings, selection: Selection, have: int) -> None:
    name, wanted = settings.known.name, settings.problems
    if have == 0:
        where = f" in the domains {', '.join(settings.domains)}" if settings.domains else ""
        dropped = f"; {len(selection.left_out)} were dropped" if selection.left_out else ""
        raise UserError(name, f"nothing is selected{where}: {selection.rows_read} rows read{dropped}")
    if wanted is not None and have < wanted:
        raise UserError(f"count={wanted}", f"{name} gives {have} here", f"use --count {have} or fewer")
