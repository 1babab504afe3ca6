"""Checks that a model's weights can be read, and that each token has an embedding row."""

from __future__ import annotations

import math

from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn

SPARE_ROWS_NATS = 0.01
"""A gap between sampler and trainer that is reported, nats per token."""


def safe_weights(case: Case) -> Finding:
    for model in (case.student, *(() if case.settings.teacher.urls else (case.teacher,))):
        model.check_weights()
    return ok("safetensors in both models, where their files can be listed")


def embedding_rows(case: Case) -> Finding:
    """verl's sampler masks embedding rows beyond the tokenizer (verl/workers/rollout/vllm_rollout/utils.py:
    monkey_patch_compute_logits) while its trainer's softmax counts them, so their log p differ by
    -log(1 - mass of the spare rows)."""
    told, most = [], 0.0
    for name, model in (("student", case.student), ("teacher", case.teacher)):
        said, tokens = model.shape.vocab_size, len(model.tokenizer)
        rows = said if model.embedding_rows is None else model.embedding_rows
        if rows != said:
            return fail(
                f"the {name}'s weights have {rows} embedding rows, its config.json says {said}",
                f"give the config.json that belongs to the weights of {model.path}",
            )
        if rows < tokens:
            return fail(
                f"the {name} has {rows} embedding rows for {tokens} tokens: ids from {rows} on have none",
                f"resize its embeddings, or give the tokenizer that belongs to {model.path}",
            )
        told.append(f"{name} {rows - tokens} spare rows of {rows}")
        if name == "student":
            most = math.log(rows / tokens)
    reason = f"{', '.join(told)}; were the student's as likely as others, its trainer's log p would lie "
    reason += f"{most:.4f} nats under its sampler's"
    if most > SPARE_ROWS_NATS:
        return warn(reason, "shrink the student's embedding to its tokenizer; --engines measures the gap")
    return ok(reason)
