"""Start the real engines, one after the other, to sample and score.

The student samples x and scores x. The teacher samples y and scores x twice. Then a forward pass of the student, by
transformers in the trainer's precision, scores x and y.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.loopback import stay_on_loopback
from prefix_opd.base.processes import python_module, run
from prefix_opd.checks.case import Case
from prefix_opd.checks.remote_teacher import URL_KEY, sample_and_score
from prefix_opd.config.keys import ATTENTION_KEY, PACKED_ATTENTION
from prefix_opd.config.lora import Lora
from prefix_opd.config.models import Model, engine_arguments
from prefix_opd.run.adapter import merge

PROMPTS = 16
TOKENS = 96
"""Maximum response length. A short one suffices, because prefix training uses the beginning."""
SEED = 0
ENGINE_SECONDS = 3600.0
"""Time limit for both engines together; large weights on a network disk load slowly."""
BATCH = 4
"""Sequences per forward pass; their logits dominate memory."""

Rows = list[np.ndarray]
"""[B] arrays of [T] log-probs in nats; T is each response's own length."""


@dataclass(frozen=True)
class Scores:
    """Log-probs of two sets of responses, by the engines and by the trainer's forward pass."""

    student_tokens: list[list[int]]
    """x, sampled by the student: [B][T]."""
    sampler: Rows
    """log p(x) from the student's engine, at sampling."""
    student_again: Rows
    """log p(x) from the student's engine, scored as a teacher scores."""
    trainer: Rows
    """log p(x) from the trainer's forward pass."""
    teacher: Rows
    """log q(x)."""
    teacher_again: Rows
    """log q(x), scored again in another order."""
    teacher_on_own: Rows
    """log q(y) from the teacher's engine, at sampling."""
    student_on_teachers: Rows
    """log p(y) from the trainer's forward pass."""
    teacher_tokens: list[list[int]]
    """y, sampled by the teacher, stop token included: [B][T]."""
    student_ends: dict[int, str]
    """The student's end tokens: id -> name."""
    stop_ids: frozenset[int]
    """Stop tokens of both models."""
    vocabulary: int
    special_ids: frozenset[int]
    exact: bool
    """Whether the engines and the trainer all compute in fp32."""


@contextmanager
def at_start(case: Case) -> Iterator[Case]:
    """The case, with the adapter that its student starts from merged into a temporary model."""
    lora = Lora.of(case.config)
    if lora is None or lora.start is None:
        yield case
        return
    with tempfile.TemporaryDirectory(prefix="prefix-opd-doctor-") as folder:
        merge(case.student, Path(lora.start).expanduser(), Path(folder))
        case.student.tokenizer.save_pretrained(folder)
        yield replace(case, student=replace(case.student, path=folder))


def measure(case: Case) -> Scores:
    """Run the engines. Raises UserError with the end of the engine's output if an engine does not start."""
    with at_start(case) as merged:
        return _measure(merged)


def _measure(case: Case) -> Scores:
    longest = case.config.data.max_prompt_length
    pairs = [pair for pair in zip(case.prompts, case.teacher_prompts, strict=True) if len(pair[0]) <= longest][:PROMPTS]
    if not pairs:
        raise UserError("data.train_files", "no prompt fits data.max_prompt_length")
    prompts, theirs = map(list, zip(*pairs, strict=True))
    sample = _request(case, "student", case.student, case.config.actor_rollout_ref.rollout, prompts, None)
    score = _request(case, "teacher", case.teacher, _teachers_node(case), theirs, "student")
    stay_on_loopback(case.config)  # as in training; the engines inherit it
    if case.settings.teacher.urls:
        (student,) = _answers([sample])
        responses = [row["tokens"] for row in student["sampled"]]
        teacher = sample_and_score(case.config, case.settings, score, responses)
    else:
        student, teacher = _answers([sample, score])
    ours, theirs = (
        # the student never sees the teacher's own prompts
        trainer_log_probs(case, [{**row, "prompt": prompt} for row, prompt in zip(found, prompts, strict=True)])
        for found in (student["sampled"], teacher["sampled"])
    )
    (again, _), (first, second) = (map(_rows, answer["scored"]) for answer in (student, teacher))
    tokenizer = case.student.tokenizer
    return Scores(
        student_tokens=[row["tokens"] for row in student["sampled"]],
        sampler=_rows(row["log_probs"] for row in student["sampled"]),
        student_again=again,
        trainer=ours,
        teacher=first,
        teacher_again=second,
        teacher_on_own=_rows(row["log_probs"] for row in teacher["sampled"]),
        student_on_teachers=theirs,
        teacher_tokens=[row["tokens"] for row in teacher["sampled"]],
        student_ends={index: tokenizer.convert_ids_to_tokens(index) for index in case.student.end_token_ids},
        stop_ids=frozenset({*case.stop_ids, *case.teacher.end_token_ids}),
        vocabulary=len(tokenizer),
        special_ids=frozenset(tokenizer.added_tokens_decoder),
        exact=_is_exact(case),
    )


def _request(
    case: Case, name: str, model: Model, node: DictConfig, prompts: list[list[int]], sequences_of: str | None
) -> dict[str, Any]:
    return {
        "name": name,
        "model": model.place,
        "tokens": len(model.tokenizer),
        "prompts": prompts,
        "seeds": list(range(SEED, SEED + len(prompts))),
        "sequences_of": sequences_of,
        "sampling": {
            "max_tokens": min(TOKENS, case.config.data.max_response_length),
            "temperature": 1.0,
            "stop_token_ids": case.stop_ids,
        },
        "engine": {"trust_remote_code": model.trust_remote_code, **engine_arguments(node)},
    }


def _answers(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="prefix-opd-doctor-") as name:
        folder = Path(name)
        (folder / "requests.json").write_text(json.dumps(requests))
        try:
            ran = run(python_module("prefix_opd.verl_plugin.server.doctor_engines", [name]), ENGINE_SECONDS)
        except subprocess.TimeoutExpired:
            rule = f"the engines did not answer within {ENGINE_SECONDS:g} s"
            fix = "check with nvidia-smi or top what uses the machine, and whether a model is still being downloaded"
            raise UserError("--engines", rule, fix) from None
        files = [folder / f"{request['name']}.json" for request in requests]
        for request, file in zip(requests, files, strict=True):
            if not file.exists():
                lines = [line for line in (ran.stdout + ran.stderr).splitlines() if "Error" in line]
                why = lines[-1].strip() if lines else f"exit code {ran.returncode}"
                raise UserError(request["model"], f"its engine does not start: {why}")
        return [json.loads(file.read_text()) for file in files]


def _rows(rows) -> Rows:
    return [np.asarray(row, dtype=np.float64) for row in rows]


def _teachers_node(case: Case) -> DictConfig:
    return OmegaConf.select(case.config, f"{case.teacher.key.removesuffix('.model_path')}.inference")


def _is_exact(case: Case) -> bool:
    if OmegaConf.select(case.config, URL_KEY):
        return False  # the precision of a remote teacher is unknown
    precisions = (
        case.config.actor_rollout_ref.rollout.dtype,
        _teachers_node(case).dtype,
        case.config.actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype,
    )
    return all(precision in ("fp32", "float32") for precision in precisions)


def trainer_log_probs(case: Case, sequences: list[dict[str, Any]]) -> list[np.ndarray]:
    """The student's log-probs in the trainer's matmul precision, with a softmax over all embedding rows: [B] arrays
    [T], nats. ``sequences``: [B] dicts with the token ids ``prompt`` and ``tokens``."""
    import torch

    model = _load(case)
    pad = case.student.tokenizer.pad_token_id or 0
    found = []
    for i in range(0, len(sequences), BATCH):
        rows = [torch.tensor([*row["prompt"], *row["tokens"]]) for row in sequences[i : i + BATCH]]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask.to(model.device)).logits[:, :-1].float()
        log_p = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].cpu()  # [B, length - 1]
        for row, whole, sequence in zip(log_p, rows, sequences[i : i + BATCH], strict=True):
            found.append(row[len(sequence["prompt"]) - 1 : len(whole) - 1].double().numpy())
    return found


def _load(case: Case):
    import torch
    from transformers import AutoModelForCausalLM

    name = OmegaConf.select(case.config, ATTENTION_KEY)
    bf16 = case.config.actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype in ("bf16", "bfloat16")
    model = AutoModelForCausalLM.from_pretrained(
        case.student.place,
        dtype=torch.bfloat16 if bf16 else torch.float32,
        trust_remote_code=case.student.trust_remote_code,
        attn_implementation="sdpa" if name == PACKED_ATTENTION else name,  # this pass is padded
    )
    return model.eval().to("cuda" if torch.cuda.is_available() and case.config.platform != "cpu" else "cpu")
