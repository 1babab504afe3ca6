"""The divergences of `prefix_opd.method.objective` that read the teacher's top k, where verl computes its own.

Logits exist for one micro-batch at a time, so ``ppo_max_token_len_per_gpu`` bounds the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prefix_opd.base.patching import around
from prefix_opd.method.divergence import log_probs_of, with_rest
from prefix_opd.method.objective import Objective


def losses_of(loss: Objective, log_p: Tensor, log_q: Tensor) -> dict[str, Tensor]:
    """Loss and masses of each position, in verl's names, from (..., k) log-probs of student and teacher in fp32."""
    with torch.no_grad():
        masses = {"student_mass": log_p.exp().sum(-1), "teacher_mass": log_q.exp().sum(-1)}
    return {"distillation_losses": loss.divergence(with_rest(log_p), with_rest(log_q)), **masses}


@around
def by_the_objective(verls_own, config, distillation_config, data, student_logits, data_format) -> dict[str, Any]:
    """``compute_topk_loss``. An objective of this package computes its own divergence."""
    from verl.utils.tensordict_utils import get_non_tensor_data

    from prefix_opd.verl_plugin.fields import SETTINGS

    ours = get_non_tensor_data(data, SETTINGS, default=None)
    if ours is None or ours.loss.is_verls:
        return verls_own(config, distillation_config, data, student_logits, data_format)
    # (1, N, k), the sequences of the micro-batch one after another, as the logits (1, N, V)
    log_q, ids = (data[name].values().unsqueeze(0) for name in ("teacher_logprobs", "teacher_ids"))
    if log_q.shape[:2] != student_logits.shape[:2]:
        raise ValueError(f"scores {tuple(log_q.shape)} and logits {tuple(student_logits.shape)} differ in tokens")
    return losses_of(ours.loss, log_probs_of(student_logits, ids.long()), log_q.float())
