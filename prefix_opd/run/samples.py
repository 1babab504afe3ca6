"""Rollouts of some steps, token by token, in ``samples.jsonl`` of the run's folder. The report shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from prefix_opd.base.files import read_lines, write_lines
from prefix_opd.run.log import lines_up_to

SAMPLES_FILE = "samples.jsonl"
ROLLOUTS = 4
"""Rollouts per step."""


@dataclass(frozen=True)
class Sample:
    """One rollout of T tokens."""

    step: int
    kind: str
    """"train", or "probe" for an uncapped rollout."""
    prompt: str
    tokens: list[str]
    """(T,) the text of each token."""
    ids: list[int]
    """(T,)"""
    log_p: list[float]
    """(T,) the student's log-probs, nats; in a tool's output the teacher's."""
    log_q: list[float]
    """(T,) the teacher's."""
    prefix_length: Annotated[int, Field(alias="cap")]
    """L of the rollout's row, tokens, and the tool outputs up to there; ``cap`` in the file. A probe's rollout may be
    longer."""
    ending: str
    """"cut", "natural", "tools" or "other"."""


_SAMPLE = TypeAdapter(Sample)


class SampleLog:
    """Appends samples. A resumed run removes those of later steps than its checkpoint."""

    def __init__(self, run: str | Path, resumed_step: int = 0):
        self.path = Path(run) / SAMPLES_FILE
        write_lines(self.path, lines_up_to(self.path, resumed_step))

    def write(self, samples: Sequence[Sample]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(_SAMPLE.dump_python(sample, by_alias=True)) + "\n" for sample in samples)


def read_samples(run: str | Path) -> Iterator[Sample]:
    """The samples of a run, in order. Raises ValueError for a line that is not a sample."""
    return map(_SAMPLE.validate_python, read_lines(Path(run) / SAMPLES_FILE))


def is_sampled(step: int, test_freq: int, last_step: int) -> bool:
    """Whether a step is the first, the last or a validated one."""
    return step in (1, last_step) or (test_freq > 0 and step % test_freq == 0)
