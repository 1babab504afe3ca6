"""Compute a prompt once for all its rollouts: P + n L tokens pass through the model in place of n (P + L).

In a causal model the states of a prompt do not depend on the response. So the tokens of many rollouts form one row
without padding: first each distinct prompt once, then all responses. Layers that work per token (projections, norms,
MLP, head) process this row as it is. Attention runs in two parts. Prompts attend to themselves; responses attend to
their prompt's keys and, causally, to their own. Only these two parts are padded, to the longest prompt and the longest
response. No token sees another rollout's response, so the gradients of a prompt's rollouts add up.

    rollouts     a b c | x y      and      a b c | z
    the row      a b c x y z      at positions 0 1 2 3 4 3
    predicting   c x  c           the tokens whose outputs predict x y  z
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def owners(prompts: Sequence[Tensor]) -> list[int]:
    """(B,) prompt number of each rollout. Equal token ids are one prompt, numbered by first appearance."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(prompt.tolist()), len(numbers)) for prompt in prompts]


class SharedPrompts:
    """The row of a batch of rollouts, and attention within the row.

    Args:
        prompt_lengths: (B,) tokens, at least 1.
        response_lengths: (B,) tokens, at least 1.
        owners: (B,) prompt number of each rollout.
        device: device of the tensors below.

    Attributes:
        tokens: (T,) index of each row token among the concatenated tokens of all rollouts.
        predicting: (K,) place in the row that predicts each response token, rollout after rollout.
    """

    def __init__(self, prompt_lengths: Sequence[int], response_lengths: Sequence[int], owners: Sequence[int], device):
        starts, total = [], 0
        firsts: dict[int, int] = {}
        for row, (prompt, response) in enumerate(zip(prompt_lengths, response_lengths, strict=True)):
            starts.append(total)
            firsts.setdefault(owners[row], row)  # the prompt is copied from its first rollout
            total += prompt + response
        order = {owner: place for place, owner in enumerate(firsts)}
        lengths = [prompt_lengths[row] for row in firsts.values()]
        prompts = [torch.arange(starts[row], starts[row] + prompt_lengths[row]) for row in firsts.values()]
        spans = zip(starts, prompt_lengths, response_lengths, strict=True)
        responses = [torch.arange(start + prompt, start + prompt + response) for start, prompt, response in spans]
        self._prompts = _Padded(lengths, device)
        self._responses = _Padded(response_lengths, device)
        self._prompt_of = torch.tensor([order[owner] for owner in owners], device=device)
        self._split = sum(lengths)

        self.tokens = torch.cat([*prompts, *responses]).to(device)
        self.predicting = torch.arange(sum(response_lengths), device=device) + self._split - 1
        # a rollout's first response token follows the last token of its prompt
        self.predicting[self._responses.starts] = self._prompts.ends[self._prompt_of]
        self._masks: dict[torch.dtype, Tensor] = {}

    def attention(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None, dropout: float) -> Tensor:
        """Causal softmax attention within each rollout.

        Args:
            query: (1, H, T, d).
            key, value: (1, H / g, T, d), one key head for g query heads.
            scale: factor of the query-key products; None: 1 / sqrt(d).
            dropout: dropout probability of the attention weights.

        Returns:
            (1, T, H, d).
        """
        query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, d)
        groups = query.shape[1] // key.shape[1]
        (q, q_own), (k, k_own), (v, v_own) = (tensor.tensor_split([self._split]) for tensor in (query, key, value))
        k, v = (_heads(self._prompts.pad(tensor), groups) for tensor in (k, v))
        found = scaled_dot_product_attention(
            self._prompts.pad(q).transpose(1, 2), k, v, is_causal=True, scale=scale, dropout_p=dropout
        )
        k_own, v_own = (_heads(self._responses.pad(tensor), groups) for tensor in (k_own, v_own))
        # index_select, as the backward pass of [] adds in thread order and is not deterministic
        k, v = (tensor.index_select(0, self._prompt_of) for tensor in (k, v))
        found_own = scaled_dot_product_attention(
            self._responses.pad(q_own).transpose(1, 2),
            torch.cat([k, k_own], dim=2),
            torch.cat([v, v_own], dim=2),
            attn_mask=self._mask(query.dtype),
            scale=scale,
            dropout_p=dropout,
        )
        parts = self._prompts.unpad(found.transpose(1, 2)), self._responses.unpad(found_own.transpose(1, 2))
        return torch.cat(parts).unsqueeze(0)

    def _mask(self, dtype: torch.dtype) -> Tensor:
        """(R, 1, L, P + L): 0 where a response token may attend, else -inf. Rows of padding are never all -inf."""
        if dtype not in self._masks:
            device, width = self.tokens.device, self._responses.width
            prompt = torch.arange(self._prompts.width, device=device) < self._prompts.lengths[self._prompt_of, None]
            own = torch.ones(width, width, dtype=torch.bool, device=device).tril()
            rows = len(self._prompt_of)
            seen = torch.cat([prompt[:, None].expand(rows, width, -1), own.expand(rows, width, width)], dim=-1)
            mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, float("-inf"))
            self._masks[dtype] = mask.unsqueeze(1)
        return self._masks[dtype]


class _Padded:
    """Converts between concatenated sequences and rows padded to the longest."""

    def __init__(self, lengths: Sequence[int], device):
        self.width, self._even = max(lengths), len(set(lengths)) == 1
        self.lengths = torch.tensor(lengths, device=device)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.ends = self.starts + self.lengths - 1
        columns = torch.arange(self.width, device=device)
        # padding repeats the last token: its values are finite, and no token attends to them
        self._into = torch.minimum(self.starts[:, None] + columns, self.ends[:, None]).flatten()
        self._back = (columns < self.lengths[:, None]).flatten().nonzero().squeeze(1)

    def pad(self, tensor: Tensor) -> Tensor:
        """(tokens, ...) -> (rows, width, ...)."""
        found = tensor if self._even else tensor.index_select(0, self._into)
        return found.unflatten(0, (-1, self.width))

    def unpad(self, tensor: Tensor) -> Tensor:
        """(rows, width, ...) -> (tokens, ...)."""
        found = tensor.flatten(0, 1)
        return found if self._even else found.index_select(0, self._back)


def _heads(tensor: Tensor, groups: int) -> Tensor:
    """(rows, width, heads, d) -> (rows, heads * groups, width, d): each head is repeated ``groups`` times."""
    return tensor.transpose(1, 2).repeat_interleave(groups, dim=1)
