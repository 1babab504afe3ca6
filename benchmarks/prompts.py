"""The miniature's questions behind worked examples: prompts of any length.

The cost of a step depends on the length of a prompt, not on its content.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

TRAIN = "train.parquet"


def write_prompts(lengths: Sequence[int], folder: Path, count: int = 512) -> None:
    """Write ``folder / TRAIN``, rows as the miniature's (`prefix_opd.miniature.data`).

    Args:
        lengths: least and most tokens of the user's message, uniformly drawn; at least as long as a question.
        count: rows.
    """
    from prefix_opd.miniature.chain import Chain
    from prefix_opd.miniature.data import draw_problems

    rng = random.Random(0)
    problems = draw_problems(train=count, test=1, seed=0)["train"]
    asked = [(_message(one.question, rng.randint(*lengths), rng), one.answer) for one in problems]
    _write(Chain.SOURCE, asked, folder)


def _message(question: str, length: int, rng: random.Random) -> str:
    """Worked examples and then the question, cut at the front to ``length`` characters; a character is a token here."""
    from prefix_opd.miniature.chain import Chain
    from prefix_opd.miniature.task import TEACHER, respond

    examples = ""
    while len(examples) + len(question) < length:
        problem = Chain.draw(rng)
        steps, answer = respond(problem, TEACHER, rng).split("</think>")
        examples = f"{problem.question} {steps} {answer[:2]} {examples}"
    return examples[len(examples) + len(question) - length :] + question


def write_words(words: int, vocabulary: int, folder: Path, count: int = 512) -> None:
    """Write ``folder / TRAIN``: prompts of random words for the models of `benchmarks.models.PAIRS`.

    Args:
        words: tokens of the user's message.
        vocabulary: plain words of the tokenizer.
        count: rows.
    """
    rng = random.Random(0)
    texts = (" ".join(f"w{rng.randrange(2, vocabulary)}" for _ in range(words)) for _ in range(count))
    _write("tiny", [(text, "1") for text in texts], folder)


def _write(source: str, asked: Sequence[tuple[str, str]], folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from prefix_opd.miniature.data import row

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row(source, *pair, "train", i) for i, pair in enumerate(asked)]
    pq.write_table(pa.Table.from_pylist(rows), folder / TRAIN)
