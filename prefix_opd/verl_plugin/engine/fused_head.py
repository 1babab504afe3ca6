"""Log-probs of the sampled tokens, or of the teacher's top k, from the hidden states without logits in fp32.

The head and its log-softmax are computed in chunks of rows: the logits in the model's dtype, their log-sum-exp in fp32.
The backward pass forms the gradient of a chunk's logits from kept or recomputed logits:

    d loss / d logits = sum over labels of (one_hot(label) - softmax(logits / t)) * (d loss / d log_prob) / t

Recomputing costs a third more FLOP of the head; keeping costs 2 bytes per logit in bf16. A model with a vocabulary of
151 936 and log-softmax in autograd needs 8 to 12 bytes per logit.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from prefix_opd.config.models import PLAIN_DECODERS

LOGITS = {"cpu": 2**24, "cuda": 2**29}
"""Logits of a chunk by device; on a GPU 3 533 rows of Qwen3's vocabulary, 1 GiB in bf16."""

_ASKED = "prefix_opd_asked"


def plain_head(module: Any) -> nn.Linear | None:
    """The head of a model if its output is the logits, else None. Other models may scale or cap it."""
    if module.config.model_type not in PLAIN_DECODERS:
        return None
    head = module.get_output_embeddings()
    return head if isinstance(head, nn.Linear) and head.bias is None else None


def ask(head: nn.Linear, **wanted: Any) -> None:
    """Make the next pass through ``head`` return log-probs, (1,) + the labels' shape, in place of logits.

    Args:
        wanted: arguments of `label_log_probs` besides ``hidden`` and ``weight``, and ``cells``: (K,) which of the
            flattened hidden states; None: all.
    """
    if _ASKED not in vars(head):
        head.forward = functools.partial(_forward, head, head.forward)
    setattr(head, _ASKED, wanted)


def _forward(head: nn.Linear, own: Any, hidden: Tensor) -> Tensor:
    wanted = getattr(head, _ASKED)
    setattr(head, _ASKED, None)
    if wanted is None:
        return own(hidden)
    cells = wanted.pop("cells")
    rows = hidden.flatten(0, -2)
    rows = rows if cells is None else rows.index_select(0, cells)
    return label_log_probs(rows, head.weight, **wanted).unsqueeze(0).clone()  # FSDP2 warns of views


def label_log_probs(
    hidden: Tensor, weight: Tensor, labels: Tensor, temperatures: Tensor | None, keep: bool, compiled: bool
) -> Tensor:
    """log softmax(hidden weight^T / temperature)[label].

    Args:
        hidden: (K, D).
        weight: (V, D).
        labels: (K,) token ids, or (K, k) with k different ones in a row.
        temperatures: (K,); None: all 1.
        keep: keep the logits for the backward pass, or recompute them there.
        compiled: fuse the arithmetic on logits by ``torch.compile``.

    Returns:
        Log-probs in the labels' shape, differentiable in ``hidden`` and ``weight``; fp32, or fp64 for a model in fp64.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    rows = labels.reshape(len(labels), -1)
    found = _LabelLogProbs.apply(hidden.to(dtype), weight.to(dtype), rows, temperatures, keep, compiled)
    return found.reshape(labels.shape)


class _LabelLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, labels, temperatures, keep, compiled):
        score = _compiled(_score) if compiled else _score
        ctx.rows = max(1, LOGITS.get(hidden.device.type, LOGITS["cuda"]) // len(weight))
        kept, scores = [], []
        for rows, ids, scale in _chunks(ctx.rows, hidden, labels, temperatures):
            logits = rows @ weight.T
            scores.append(score(logits, ids, scale))
            if keep:
                kept.append(logits)
        log_probs, totals = (torch.cat(part) for part in zip(*scores, strict=True))
        ctx.save_for_backward(hidden, weight, labels, temperatures, totals)
        ctx.kept, ctx.compiled = kept, compiled
        return log_probs

    @staticmethod
    def backward(ctx, upstream):
        hidden, weight, labels, temperatures, totals = ctx.saved_tensors
        slope = _compiled(_slope) if ctx.compiled else _slope
        hidden_gradients, weight_gradient = [], None
        kept, ctx.kept = ctx.kept, []
        for rows, ids, scale, total, above in _chunks(ctx.rows, hidden, labels, temperatures, totals, upstream):
            logits = kept.pop(0) if kept else rows @ weight.T
            logits = slope(logits, ids, scale, total, above)
            if ctx.needs_input_grad[0]:
                hidden_gradients.append(logits @ weight)
            if ctx.needs_input_grad[1]:
                if weight_gradient is None:
                    weight_gradient = logits.T @ rows
                else:
                    weight_gradient.addmm_(logits.T, rows)
        found = torch.cat(hidden_gradients) if hidden_gradients else None
        return found, weight_gradient, None, None, None, None


def _chunks(rows: int, *tensors: Tensor | None):
    """The tensors in chunks of rows, side by side."""
    count = -(-len(tensors[0]) // rows)
    return zip(*([None] * count if one is None else one.split(rows) for one in tensors), strict=True)


@functools.cache
def _compiled(function):
    """Compiled for any number of rows and this vocabulary."""
    compiled = torch.compile(function)

    def call(*tensors):
        for tensor in tensors:
            if tensor is not None:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return compiled(*tensors)

    return call


def _scaled(logits: Tensor, temperatures: Tensor | None) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperatures is None else logits / temperatures[:, None]


def _score(logits: Tensor, labels: Tensor, temperatures: Tensor | None) -> tuple[Tensor, Tensor]:
    """(R, k) log-probs of the labels, and (R, 1) log-sum-exp of the rows."""
    scaled = _scaled(logits, temperatures)
    total = scaled.logsumexp(-1, keepdim=True)
    return scaled.gather(-1, labels) - total, total


def _slope(logits: Tensor, labels: Tensor, temperatures: Tensor | None, total: Tensor, upstream: Tensor) -> Tensor:
    """(R, V) gradient of the logits, in their dtype."""
    likely = (_scaled(logits, temperatures) - total).exp()
    above = upstream if temperatures is None else upstream / temperatures[:, None]
    others = -likely * above.sum(-1, keepdim=True)
    return others.to(logits.dtype).scatter(-1, labels, (others.gather(-1, labels) + above).to(logits.dtype))
