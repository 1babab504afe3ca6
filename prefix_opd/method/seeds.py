"""Which random numbers a rollout is drawn with: a function of what it is, never of what was drawn before it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seed_of(what: str, bits: int) -> int:
    """The first ``bits`` bits (64 at most) of a text's SHA-256, as a number in [0, 2^bits)."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big") >> (64 - bits)


def rollout_seed(run_seed: int, step: int, prompt: Any, rollout: int, attempt: int = 0, validate: bool = False) -> int:
    """The engine's seed for one rollout, in [0, 2^63).

    An engine draws from one stream for all requests, so what it samples depends on all that it sampled before: a run
    that was killed and goes on draws other rollouts than one that was not. With a seed of its own a rollout depends
    on its place in the run alone.

    Args:
        run_seed: the run's own.
        step: the update that the rollout is for, from 1.
        prompt: what tells prompts apart: any JSON value, e.g. (index in the data set, messages).
        rollout: number among the n of its prompt.
        attempt: how often this step's batch was thrown away and sampled again.
        validate: a validation answer, which must not repeat the training rollout of the same prompt.
    """
    return seed_of(json.dumps([run_seed, step, prompt, rollout, attempt, validate], default=str, sort_keys=True), 63)


def answer_seed(seed: int | str, problem: int | str, sample: int | str) -> int:
    """The engine's seed for one answer of an evaluation or an analysis, in [0, 2^32)."""
    return seed_of(f"{seed}/{problem}/{sample}", 32)
