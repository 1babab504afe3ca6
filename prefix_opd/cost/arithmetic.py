"""Cost of a run as pure functions: FLOP of an update, hours of a phase, memory of a GPU.

`prefix_opd.cost.plan` reads a config and calls them. Units: tokens, FLOP, FLOP/s, GiB, hours.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.method.flops import ModelShape, StepFlops, exact_flops, paper_flops

GIB = 2**30
PHASES = ("sampling", "student_scoring", "teacher_scoring", "update")

UTILISATION = {"sampling": 0.08, "student_scoring": 0.30, "teacher_scoring": 0.25, "update": 0.35}
"""Share of the peak FLOP/s that each phase reaches: assumed, not measured. Sampling is bound by memory bandwidth: it
reads all weights and the cache for each token. With the FLOP that the paper states for a row,
layout=node_8x80gb_dedicated needs 1.0 to 1.5 times the paper's hours on 8 x A100 for 8B, and half of them for 1.7B."""


@dataclass(frozen=True)
class Accelerator:
    """Peak dense bf16 FLOP/s from the data sheet, and the memory available to a program.

    L4: 242 TFLOP/s with sparsity, half of it dense (NVIDIA L4 data sheet). RTX 4090: 165.2 TFLOP/s with fp32 sums
    (NVIDIA Ada GPU architecture, appendix A).
    """

    peak: float
    memory_gib: float


ACCELERATORS = {
    "a100": Accelerator(312e12, 79),
    "h100": Accelerator(989e12, 79),
    "h200": Accelerator(989e12, 139),
    "l4": Accelerator(121e12, 22),
    "rtx4090": Accelerator(165.2e12, 23.5),
    "cpu": Accelerator(1e11, 16),  # a few cores; order of magnitude only
}


@dataclass(frozen=True)
class ResponseLengths:
    """Response lengths without a cap, as (tokens, share) pairs. Without pairs, every response reaches its cap.

    >>> ResponseLengths(((100, 0.5), (900, 0.5))).capped(256)
    [(100, 0.5), (256, 0.5)]
    """

    shares: tuple[tuple[float, float], ...] = ()

    def capped(self, cap: int) -> list[tuple[float, float]]:
        """(tokens, share) of rollouts with at most ``cap`` tokens."""
        merged: dict[float, float] = {}
        for length, share in self.shares or ((cap, 1.0),):
            length = min(length, cap)
            merged[length] = merged.get(length, 0.0) + share
        return sorted(merged.items())


def lengths_from_file(path: str | Path) -> ResponseLengths:
    """Read a histogram: JSON ``{"512": 30, …}`` or CSV lines ``length,count``; a heading may come first.

    Raises UserError: no file, no histogram, or no positive count.
    """
    path, what = Path(path), f"--response-histogram {path}"
    fix = 'give JSON {"length": count} or CSV lines length,count'
    if not path.is_file():
        raise UserError(what, "does not exist", fix)
    try:
        text = path.read_text()
        if path.suffix == ".json":
            pairs = json.loads(text, object_pairs_hook=tuple)  # with keys that occur twice
            if not isinstance(pairs, tuple):
                raise TypeError
        else:
            pairs = [row for row in csv.reader(text.splitlines()) if row]
            if pairs and not pairs[0][0].strip().replace(".", "", 1).isdigit():
                pairs = pairs[1:]  # the heading
        numbers = [(float(length), float(count)) for length, count in pairs]
    except (ValueError, TypeError, OverflowError, RecursionError, OSError, csv.Error):
        raise UserError(what, "is not a histogram", fix) from None
    counts: dict[float, float] = {}
    for length, count in numbers:  # a length may occur twice
        counts[length] = counts.get(length, 0.0) + count
    total = sum(counts.values())
    if not 0 < total < math.inf or not all(1 <= one < math.inf and count >= 0 for one, count in numbers):
        raise UserError(what, "needs lengths of at least 1 and counts of at least 0, not all 0")
    return ResponseLengths(tuple((length, count / total) for length, count in sorted(counts.items()) if count))


def step_flops(
    student: ModelShape,
    teacher: ModelShape,
    prompt: float,
    responses: Sequence[tuple[float, float]],
    rollouts: float,
    recomputed: bool = False,
    teacher_prompt: float | None = None,
) -> dict[str, StepFlops]:
    """One update in both accountings.

    Args:
        prompt: mean prompt length, tokens (only in the exact accounting).
        responses: (tokens, share) of the rollouts.
        recomputed: whether a separate student pass recomputes the log-probs (only in the exact accounting).
        teacher_prompt: mean length of the teacher's own prompt, tokens; None: the student's.
    """
    found = {"exact": StepFlops(), "paper": StepFlops()}
    scored = None if teacher_prompt is None else [teacher_prompt]
    for length, share in responses:
        found["exact"] += rollouts * share * exact_flops(student, teacher, [prompt], [length], recomputed, scored)
        found["paper"] += rollouts * share * paper_flops(student, teacher, [length])
    return found


def hours(
    flops: StepFlops, flops_per_second: Mapping[str, float], gpus: Mapping[str, float], one_by_one: bool = False
) -> dict[str, float]:
    """Hours by phase, and their total.

    A teacher on its own GPUs scores each rollout while others are sampled, so only the longer of both phases counts.

    Args:
        flops_per_second: by phase, of one GPU.
        gpus: number of GPUs of ``student`` and ``teacher``; 0 for a teacher on other machines, which takes no hours.
        one_by_one: add sampling and teacher scoring: the teacher scores on the GPUs that sample.
    """
    found = {}
    for phase in PHASES:
        pool = gpus["teacher" if phase == "teacher_scoring" else "student"]
        found[phase] = getattr(flops, phase) / (flops_per_second[phase] * pool) / 3600 if pool else 0.0
    rollouts = (sum if one_by_one else max)((found["sampling"], found["teacher_scoring"]))
    return {**found, "total": rollouts + found["student_scoring"] + found["update"]}


# ---- memory ----

LOGIT_BYTES_UPDATE, LOGIT_BYTES_FUSED = 8, 2
"""Bytes of a logit in the update: 2 in bf16, 2 for its gradient, 4 for an fp32 copy. A fused head keeps only bf16."""
LOGIT_BYTES_SCORING = 8
"""Bytes of a logit when vLLM scores a prompt: 4 for the fp32 logit, 4 for the log-prob."""
USABLE = 0.92
"""Share of a card that a plan uses; the rest is for CUDA contexts and fragmentation."""
OVERHEAD_GIB = {True: 1.0, False: 3.0}
"""Of a vLLM engine, beside weights and cache, without CUDA graphs (eager) and with them: assumed, not measured."""
ASLEEP_GIB = {True: 1.0, False: 2.0}
"""What a sleeping vLLM engine keeps on the GPU, without CUDA graphs and with them: assumed, not measured."""


def cache_bytes(shape: ModelShape, tokens: float, bytes_per_value: int = 2) -> float:
    """Cache of one sequence: keys and values, bounded by a sliding window, and the states of linear attention."""
    return sum(count * mixer.cache_bytes(tokens, bytes_per_value) for (mixer, _), count in shape.kinds.items())


def stored_parameters(shape: ModelShape, tied: bool) -> int:
    """Parameters in memory; an embedding tied to the head counts once, norms are left out."""
    return shape.all_parameters - (shape.vocab_size * shape.hidden_size if tied else 0)


def logits_gib(tokens: float, vocabulary: int, bytes_per_logit: int) -> float:
    """Logits of a batch of tokens over the whole vocabulary."""
    return tokens * vocabulary * bytes_per_logit / GIB


def trainer_values(shape: ModelShape, parameters: int, copies: int, frozen: int = 1) -> int:
    """Numbers that the trainer holds: ``copies`` for each trained weight (itself, its gradient, AdamW's two moments)
    and ``frozen`` for each weight beside an adapter."""
    return copies * shape.adapter + frozen * parameters if shape.adapter else copies * parameters


def update_memory(
    shape: ModelShape,
    parameters: int,
    actor: Mapping,
    ranks: int,
    tokens: float,
    logit_bytes: int,
    kept_bytes: int | None = None,
) -> dict[str, float]:
    """GiB per GPU during the update of the student.

    Args:
        actor: ``actor_rollout_ref.actor`` as a plain dict.
        tokens: of a micro-batch.
        logit_bytes: of a logit.
        kept_bytes: of a token, what the layers keep; None: with gradient checkpointing.
    """
    engine = actor["fsdp_config"]
    each, precision = _width(engine["model_dtype"]), engine.get("mixed_precision") or {}
    # weights and two moments of AdamW; gradients: a shard, or the whole until the last micro-batch has been summed
    held, gradients = (each * trainer_values(shape, parameters, copies, rest) for copies, rest in ((3, 1), (1, 0)))
    states = 0.0 if engine["offload_policy"] else (held + gradients) / ranks
    if engine["use_no_sync_for_gradient_accumulation"]:
        whole = _width(precision.get("reduce_dtype", "fp32")) * trainer_values(shape, parameters, 1, 0)
        states += whole if engine["offload_policy"] else max(0.0, whole - gradients / ranks)
    # two layers (all of their experts), the embedding and the head; or the whole model until its backward pass
    gathered = 2 * shape.largest_layer + 2 * shape.vocab_size * shape.hidden_size
    if not engine["reshard_after_forward"]:
        gathered = trainer_values(shape, parameters, 1)
    # checkpointing keeps each layer's input and recomputes one layer at a time (about ten tensors of MLP width)
    checkpointed = 2 * (len(shape.layers) * shape.hidden_size + 10 * shape.mlp_width)
    return {
        "states": states / GIB,
        "logits": logits_gib(tokens, shape.vocab_size, logit_bytes),
        "activations": (checkpointed if kept_bytes is None else kept_bytes) * tokens / GIB,
        "gathered": _width(precision.get("param_dtype", "bf16")) * gathered / GIB,
    }


def resident_gib(shape: ModelShape, parameters: int, actor: Mapping[str, Any], ranks: int) -> float:
    """GiB per GPU that the trainer keeps during sampling: weights and AdamW, unless offloaded."""
    engine = actor["fsdp_config"]
    if engine["offload_policy"]:
        return 0.0
    weights, moments = (0 if engine["param_offload"] else 1), (0 if engine["optimizer_offload"] else 2)
    return _width(engine["model_dtype"]) * trainer_values(shape, parameters, weights + moments, weights) / ranks / GIB


def offloaded_gib(shape: ModelShape, parameters: int, actor: Mapping[str, Any], nodes: int) -> float:
    """GiB of host memory per node that hold the trainer's offloaded states."""
    engine = actor["fsdp_config"]
    weights, rest = (1, 3) if engine["offload_policy"] else (engine["param_offload"], 2 * engine["optimizer_offload"])
    return _width(engine["model_dtype"]) * trainer_values(shape, parameters, weights + rest, weights) / nodes / GIB


def _width(dtype: str) -> int:
    return 4 if dtype in ("fp32", "float32") else 2
