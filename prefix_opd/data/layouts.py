"""Readers from a row to a ``Problem``, one per data set layout."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.data.known import CELL_KINDS, TURN_PARTS, KnownSet
from prefix_opd.data.sampling import key_of

LETTERS = string.ascii_uppercase[:10]
ASKER, ANSWERER = ("human", "user"), ("gpt", "assistant")


@dataclass(frozen=True)
class Problem:
    """A question and what is needed to grade an answer.

    Example: ``Problem("What is 1+1?", ("1", "2"), "B", "arithmetic", "q7", 6)``; without options ``truth`` is "2".
    """

    question: str
    options: tuple[str, ...]
    """Empty unless multiple choice."""
    truth: str
    """The answer, or the letter of the correct option; empty if the set has none."""
    category: str
    id: str
    index: int
    """Position of the row in its source, from 0."""


def hint(columns: Iterable[str]) -> str:
    """The remedy for a missing column, if the present columns suggest one."""
    if {"data_source", "prompt", "reward_model"} <= set(columns):
        return "these are rows of a run already: give the file as data.train_files"
    return "rename 'messages' to 'conversations'" if "messages" in columns else ""


def check_row(known: KnownSet, row: dict[str, Any], index: int) -> None:
    """Rejects a row with a missing column or a wrong type; the error names the first such column."""
    for column in known.columns:
        if column.required and column.name not in row:
            where = f"{known.name}, row {index}, column {column.name!r}"
            raise UserError(where, f"is missing; the row has {', '.join(map(repr, row)) or 'no columns'}", hint(row))
    for column in known.columns:
        cell = row.get(column.name)
        wording, fits = CELL_KINDS[column.kind]
        if not fits(cell) and (column.required or cell is not None):
            where = f"{known.name}, row {index}, column {column.name!r}"
            found = "broken Unicode" if isinstance(cell, str) and wording.startswith("text") else type(cell).__name__
            raise UserError(where, f"must be {wording}, not {found}")


def turn(row: dict[str, Any], speakers: tuple[str, ...]) -> str:
    """The first turn by one of ``speakers`` in a conversation, or ""."""
    for turn in row["conversations"]:
        speaker, text = next(parts for parts in TURN_PARTS if all(isinstance(turn.get(part), str) for part in parts))
        if turn[speaker] in speakers:
            return turn[text].strip()
    return ""


def _questions(known: KnownSet, row: dict[str, Any], index: int, seed: int) -> Problem:
    question = turn(row, ASKER)
    digest = hashlib.sha256(question.encode()).hexdigest()[:16]
    return Problem(question, (), "", row["domain"], digest, index)


def _maths(known: KnownSet, row: dict[str, Any], index: int, seed: int) -> Problem:
    identity = row.get("unique_id") or row.get("id")
    return Problem(
        row["problem"].strip(),
        (),
        str(row["answer"]).strip(),
        row.get("subject") or "",
        str(index if identity is None else identity),
        index,
    )


def _gpqa(known: KnownSet, row: dict[str, Any], index: int, seed: int) -> Problem:
    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    # `datasets` reads csv with pandas, which reads the option "None" as a missing value.
    options = ["None" if row[name] is None else row[name].strip() for name in names]
    question = row["Question"].strip()
    # The order by keyed hash depends only on the question and the seed, not on the row's position.
    order = sorted(range(len(options)), key=lambda i: (key_of(seed, question, options[i]), i))
    return Problem(
        question,
        tuple(options[i] for i in order),
        LETTERS[order.index(0)],
        row.get("High-level domain") or "",
        row.get("Record ID") or str(index),
        index,
    )


def _mmlu_pro(known: KnownSet, row: dict[str, Any], index: int, seed: int) -> Problem:
    options, letter = tuple(option.strip() for option in row["options"]), row["answer"].strip()
    where = f"{known.name}, row {index}"
    if not 2 <= len(options) <= len(LETTERS):
        raise UserError(f"{where}, column 'options'", f"must hold 2 to {len(LETTERS)} options, not {len(options)}")
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        raise UserError(f"{where}, column 'answer'", f"must be a letter from A to {LETTERS[len(options) - 1]}")
    place = row.get("answer_index")
    if place is not None and place != LETTERS.index(letter):
        raise UserError(f"{where}, column 'answer_index'", f"must agree with answer {letter}, not be {place}")
    identity = row.get("question_id")
    return Problem(
        row["question"].strip(),
        options,
        letter,
        row.get("category") or "",
        str(index if identity is None else identity),
        index,
    )


Layout = Callable[[KnownSet, dict[str, Any], int, int], Problem]
LAYOUTS: dict[str, Layout] = {"questions": _questions, "maths": _maths, "gpqa": _gpqa, "mmlu_pro": _mmlu_pro}


def read_problem(known: KnownSet, row: dict[str, Any], index: int, seed: int) -> Problem:
    """Checks row ``index`` of the source, from 0, and reads it; ``seed``: of the order of GPQA's options."""
    check_row(known, row, index)
    problem = LAYOUTS[known.layout](known, row, index, seed)
    if known.layout != "questions" and not (problem.question and problem.truth and all(problem.options)):
        # A training set may skip and count such rows; an evaluation set must not silently lose problems.
        raise UserError(f"{known.name}, row {index}", "question, answer and options must not be empty")
    return problem
