"""Log-probs of given responses by a plain forward pass, as the trainer computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from prefix_opd.checks.case import Case
from prefix_opd.config.keys import ATTENTION_KEY, PACKED_ATTENTION

BATCH = 4
"""Sequences per forward pass; their logits dominate memory."""


def trainer_log_probs(case: Case, sequences: list[dict[str, Any]]) -> list[np.ndarray]:
    """The student's log-probs in the trainer's matmul precision, with a softmax over all embedding rows.

    Args:
        sequences: [B] dicts with the token ids ``prompt`` and ``tokens``.

    Returns:
        [B] arrays [T], nats.
    """
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

    actor = case.config.actor_rollout_ref
    name = OmegaConf.select(case.config, ATTENTION_KEY)
    if name == PACKED_ATTENTION:  # this pass is padded
        name = "sdpa"
    bf16 = actor.actor.fsdp_config.mixed_precision.param_dtype in ("bf16", "bfloat16")
    model = AutoModelForCausalLM.from_pretrained(
        Path(case.student.path).expanduser() if Path(case.student.path).expanduser().is_dir() else case.student.path,
        dtype=torch.bfloat16 if bf16 else torch.float32,
        trust_remote_code=case.student.trust_remote_code,
        **({"attn_implementation": name} if name else {}),
    )
    return model.eval().to("cuda" if torch.cuda.is_available() and case.config.platform != "cpu" else "cpu")
