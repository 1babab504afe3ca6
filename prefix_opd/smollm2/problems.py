"""Arithmetic word problems with small numbers, two or three events and a worked solution; as verl's parquet files.

A problem is a story: a start, some events, a question. A line of ``stories_*.txt`` is one template: what it does to the
running total, then its sentence. Test problems have stories of their own.

======== ============================== =====================================
kind     total becomes                  line of the solution
======== ============================== =====================================
``+a``   total + a                      SENTENCE 12 + 5 = 17.
``-a``   total - a                      SENTENCE 17 - 5 = 12.
``+ab``  total + a b                    SENTENCE 3 * 6 = 18. 12 + 18 = 30.
``-ab``  total - a b                    SENTENCE 3 * 6 = 18. 30 - 18 = 12.
``*a``   total a                        SENTENCE 12 * 2 = 24.
``/a``   total / a, a whole number      SENTENCE 24 / 3 = 8.
======== ============================== =====================================
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.files import whole_files
from prefix_opd.miniature.data import row

SOURCE = "smollm2/word_problems"
STEPS = (2, 3)
"""Fewest and most events."""
MOST = 50
"""The largest running total; the least is 1."""
INSTRUCTION = "Solve it step by step. Write the result at the end as: The answer is NUMBER."
SHE = ("Mia", "Anna", "Lena", "Sara", "Nora", "Emma", "Ruth", "Jane")
HE = ("Tom", "Ben", "Omar", "Paul", "Leo", "Max", "Ivan", "Hugo")
PRONOUNS = {**dict.fromkeys(SHE, ("she", "her", "her")), **dict.fromkeys(HE, ("he", "him", "his"))}
"""Name -> subject, object, possessive."""


@dataclass(frozen=True)
class Story:
    """The templates of one story."""

    starts: tuple[str, ...]
    events: tuple[tuple[str, str], ...]
    """(kind, sentence)."""
    asks: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """One problem. Example: ``question="Mia has 12 apples. ... How many ...?"``, ``answer="30"``."""

    question: str
    """Without `INSTRUCTION`."""
    solution: str
    """The worked solution. Its last line is ``The answer is 30.``"""
    answer: str

    @property
    def prompt(self) -> str:
        """What the user says."""
        return f"{self.question}\n{INSTRUCTION}"


@cache
def stories(split: str) -> tuple[Story, ...]:
    """The stories of the split ``train`` or ``test``."""
    text = (Path(__file__).parent / f"stories_{split}.txt").read_text(encoding="utf-8")
    found = []
    for block in text.split("\n\n"):
        lines = [tuple(line.split(" ", 1)) for line in block.strip().splitlines() if not line.startswith("#")]
        starts, asks = (tuple(sentence for kind, sentence in lines if kind == name) for name in ("start", "ask"))
        found.append(Story(starts, tuple(line for line in lines if line[0] not in ("start", "ask")), asks))
    return tuple(found)


def random_problem(rng: random.Random, split: str) -> Problem:
    """Draw a problem of ``split``. Its events differ."""
    story, wanted = rng.choice(stories(split)), rng.randint(*STEPS)
    who, friend = rng.sample(sorted(PRONOUNS), 2)
    start = total = rng.randint(3, 20)
    told, solved = [rng.choice(story.starts)], []
    texts = [_sentence(told[0], who, friend, n=start)]
    while len(solved) < wanted:
        kind, template = rng.choice(story.events)
        a, b = _numbers(rng, kind)
        worked = _worked(kind, total, a, b)
        if template in told or worked is None:
            continue
        told.append(template)
        lines, total = worked
        texts.append(_sentence(template, who, friend, a=a, b=b))
        solved.append(f"{texts[-1]} {lines}")
    question = " ".join([*texts, _sentence(rng.choice(story.asks), who, friend)])
    return Problem(question, "\n".join([texts[0], *solved, f"The answer is {total}."]), str(total))


def _numbers(rng: random.Random, kind: str) -> tuple[int, int]:
    if kind in ("*a", "/a"):
        return rng.randint(2, 4), 0
    if kind.endswith("ab"):
        return rng.randint(2, 5), rng.randint(2, 5)
    return rng.randint(2, 9), 0


def _worked(kind: str, total: int, a: int, b: int) -> tuple[str, int] | None:
    """The equations of an event and the new total; None if that is no whole number from 1 to `MOST`."""
    sign, by, text = kind[0], a, ""
    if kind.endswith("ab"):
        by, text = a * b, f"{a} * {b} = {a * b}. "
    if sign == "/" and total % by:
        return None
    new = {"+": total + by, "-": total - by, "*": total * by, "/": total // by}[sign]
    return (f"{text}{total} {sign} {by} = {new}.", new) if 1 <= new <= MOST else None


def _sentence(template: str, who: str, friend: str, **numbers: int) -> str:
    she, him, her = PRONOUNS[who]
    sentence = template.format(
        name=who, friend=friend, She=she.capitalize(), she=she, Her=her.capitalize(), her=her, him=him, **numbers
    )
    return sentence[0].upper() + sentence[1:]


def draw(count: int, split: str, seed: int) -> list[Problem]:
    """``count`` different problems. More of them begin with the same ones."""
    rng, found = random.Random(f"{split} {seed}"), {}
    while len(found) < count:
        problem = random_problem(rng, split)
        found.setdefault(problem.question, problem)
    return list(found.values())


def write_data(out: Path, train: int = 8192, test: int = 512, seed: int = 0) -> None:
    """Write ``train.parquet`` and ``test.parquet``. The same seed gives the same bytes."""
    with whole_files(out) as place:
        for split, count in (("train", train), ("test", test)):
            problems = enumerate(draw(count, split, seed))
            rows = [row(SOURCE, one.prompt, one.answer, split, index) for index, one in problems]
            pq.write_table(pa.Table.from_pylist(rows), place(f"{split}.parquet"))
