"""Metrics of one update, computed over all tokens of the batch (never a mean of means)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prefix_opd.method.ending import CUT, NATURAL, OTHER, TOOLS

Bins = Mapping[int, tuple[float, int]]
"""First position of a bin -> (mean |reverse KL| per token in nats, number of tokens)."""


def reverse_kl_metrics(log_p: Tensor, log_q: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean of the per-token reverse KL and of its magnitude (arXiv 2602.15260, figure 2 shows the magnitude).

    Args:
        log_p, log_q: (N,) student and teacher log-probs of the sampled tokens, nats.
        mask: (N,) bool, tokens that the student sampled.
    """
    kl = (log_p - log_q)[mask]
    values = {"mean": kl.mean(), "abs_mean": kl.abs().mean(), "max": kl.max()}
    return {f"reverse_kl/{name}": value.item() for name, value in values.items()}


def by_position(values: Tensor, positions: Tensor, bin_width: int) -> list[tuple[int, float, int]]:
    """(first position, mean, number of tokens) of each non-empty bin of response positions.

    Args:
        values, positions: (N,), positions from 0.
        bin_width: positions per bin.
    """
    bins = positions // bin_width
    width = int(bins.max()) + 1 if len(bins) else 0
    counts = torch.bincount(bins, minlength=width)
    sums = torch.bincount(bins, weights=values.double(), minlength=width)
    filled = counts.nonzero().flatten()
    means = sums[filled] / counts[filled]
    return list(zip((filled * bin_width).tolist(), means.tolist(), counts[filled].tolist(), strict=True))


def reverse_kl_by_position(
    log_p: Tensor, log_q: Tensor, positions: Tensor, groups: Mapping[str, Tensor], bin_width: int
) -> dict[str, float]:
    """Reverse KL by position bin, for all tokens and for each group (arXiv 2602.15260, figures 2 and 5: magnitude).

    Args:
        log_p, log_q: (N,) student and teacher log-probs of the sampled tokens, nats.
        positions: (N,) positions in the response, from 0.
        groups: name -> (N,) bool, True on the tokens of the group.
        bin_width: positions per bin.

    Returns:
        ``reverse_kl_abs_by_position/{first}``, ``reverse_kl_by_position/{first}``, both again as
        ``.../{group}/{first}``, and ``tokens_by_position/{all or group}/{first}``.
    """
    kl = log_p - log_q
    found: dict[str, float] = {}
    for name, chosen in {"all": torch.ones_like(kl, dtype=torch.bool), **groups}.items():
        infix = "" if name == "all" else f"{name}/"
        for kind, values in (("reverse_kl", kl), ("reverse_kl_abs", kl.abs())):
            for first, mean, tokens in by_position(values[chosen], positions[chosen], bin_width):
                found[f"{kind}_by_position/{infix}{first}"] = mean
                found[f"tokens_by_position/{name}/{first}"] = tokens
    return found


@dataclass(frozen=True)
class Tail:
    """Growth of |reverse KL| beyond L since the first probe (arXiv 2602.15260, figure 5)."""

    ratio: float
    """Mean |reverse KL| per token now / at the first probe. Each bin has one weight in both: its smaller number of
    tokens. So longer or shorter responses alone do not change the ratio."""
    worst: int
    """First position of the bin with the largest growth."""
    worst_ratio: float


def tail_growth(now: Bins, before: Bins, prefix_length: int) -> Tail | None:
    """The growth in the bins that start at or beyond L and have tokens in both probes; None without such a bin.

    A bin that contains L is left out, because part of it is trained.

    Args:
        now, before: bins of this probe and of the first.
        prefix_length: L now, tokens.
    """
    common = [first for first in now if first in before and first >= prefix_length and before[first][0] > 0]
    if not common:
        return None

    def weighted(bins: Bins) -> float:
        return sum(bins[first][0] * min(now[first][1], before[first][1]) for first in common)

    growth = {first: now[first][0] / before[first][0] for first in common}
    worst = max(common, key=lambda first: growth[first])
    return Tail(weighted(now) / weighted(before), worst, growth[worst])


def rollout_metrics(
    records: Sequence[dict[str, Any]], lengths: Sequence[int], prefix_lengths: Sequence[int]
) -> dict[str, float]:
    """L, endings, response lengths, and the seconds until the last rollout was generated and scored.

    Args:
        records: (B,) with ``ending``, and ``generated_at`` and ``scored_at`` in seconds since the prompts went out.
        lengths, prefix_lengths: (B,) tokens that the student sampled, and L.
    """
    endings = [record["ending"] for record in records]
    generated, scores = max(record["generated_at"] for record in records), [record["scored_at"] for record in records]
    return {
        "prefix_length": max(prefix_lengths),
        "prefix_length/min": min(prefix_lengths),
        **{f"ending/{end}_fraction": endings.count(end) / len(endings) for end in (CUT, NATURAL, OTHER, TOOLS)},
        "response_length/mean": sum(lengths) / len(lengths),
        "response_length/max": max(lengths),
        "seconds/rollout": generated,
        # scoring adds time only after the last rollout
        "seconds/score": max(0.0, max(scores) - generated),
        "seconds/overlap": max(0.0, generated - min(scores)),
    }
