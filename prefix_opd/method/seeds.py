"""Sampling seeds. A seed depends on what is sampled, never on what was sampled before."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seed_of(what: str, bits: int) -> int:
    """The first ``bits`` bits (at most 64) of the text's SHA-256, as a number in [0, 2^bits)."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big") >> (64 - bits)


def rollout_seed(run_seed: int, step: int, prompt: Any, rollout: int, attempt: int = 0, validate: bool = False) -> int:
    """The engine's seed for one rollout, in [0, 2^63).

    Without seeds an engine draws all requests from one random stream, so a resumed run samples other rollouts than an
    uninterrupted one. With its own seed a rollout depends only on its place in the run.

    Args:
        step: the update that trains on the rollout, from 1.
        prompt: identifies the prompt; any JSON value, e.g. (index in the data set, messages).
        rollout: number among the n rollouts of the prompt.
        attempt: how often the batch of this step was discarded and sampled again.
        validate: True for a validation response. It then differs from the training rollout of the same prompt.
    """
    return seed_of(json.dumps([run_seed, step, prompt, rollout, attempt, validate], default=str, sort_keys=True), 63)


def answer_seed(seed: int | str, problem: int | str, sample: int | str) -> int:
    """The engine's seed for one answer of an evaluation or an analysis, in [0, 2^32)."""
    return seed_of(f"{seed}/{problem}/{sample}", 32)
