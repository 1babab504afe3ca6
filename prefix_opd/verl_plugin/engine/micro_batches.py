"""Micro-batches by length, where an update pads its sequences.

Without packed sequences (``use_remove_padding=false``: no flash-attn) verl's engine pads a micro-batch to its longest
sequence, and verl fills micro-batches up to a number of real tokens: in a small run one, of which half may be padding.
Here they are cut by `prefix_opd.method.micro_batches`, and the token limit bounds what they hold with padding. Where
prompts are shared (`update_tokens`), the rollouts of a prompt that are on this rank stay together. Loss and metrics are
shares of the whole mini-batch's, so the gradient stays what it was.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import distributed

from prefix_opd.method.micro_batches import FURTHER, Splits, cheapest_number, families
from prefix_opd.method.shared_prompts import owners
from prefix_opd.verl_plugin.engine.update_tokens import FORM, SHARED
from prefix_opd.verl_plugin.fields import SETTINGS


def by_length(verls_own: Callable) -> Callable:
    """Stands before verl's function in its FSDP engine. Batches without settings stay verl's."""
    from verl.utils import tensordict_utils as tu

    @functools.wraps(verls_own)
    def prepare_micro_batches(data, dp_group=None, **settings):
        groups = _groups(tu, data, dp_group)
        if groups is None:
            return verls_own(data=data, dp_group=dp_group, **settings)
        return [tu.index_select_tensor_dict(data, rows) for rows in groups], groups

    return prepare_micro_batches


def _groups(tu: ModuleType, data: Any, dp_group: Any) -> list[list[int]] | None:
    """The rows of each micro-batch, as many on every data-parallel rank; none: verl's own split.

    ``tu``: verl.utils.tensordict_utils.
    """
    read = functools.partial(tu.get_non_tensor_data, data)
    padded = not read("use_remove_padding", default=True) and read("use_dynamic_bsz", default=True)
    settings = read(SETTINGS, default=None)
    overhead = None if settings is None else settings.update.micro_batch_cost
    if overhead is None or not padded or read("force_group_size", default=1) != 1:
        return None
    splits, rows = _splits(data, overhead, shared=read(FORM, default=None) == SHARED)
    # FSDP's collectives want the same number of passes on every rank: the one that costs the dearest rank least.
    most = FURTHER + int(_highest([splits.fewest()], dp_group)[0])
    cheapest = splits.cheapest(most)
    costs = cheapest.costs
    if not all(row.any() for row in data["loss_mask"].unbind()):
        # verl's stand-ins for missing rollouts: alone in a micro-batch they have no token of which to tell a minimum
        costs = [float("inf")] * most
    number = cheapest_number(_highest(costs, dp_group))
    if number is None:
        return None
    return [sorted(itertools.chain(*(rows[item] for item in group))) for group in cheapest.groups(number)]


def _splits(data: Any, overhead: int, shared: bool) -> tuple[Splits, Sequence[Sequence[int]]]:
    """What there is to choose from, and the rows of each item that is split."""
    budget = data["max_token_len_per_gpu"]
    if not shared:
        lengths = data["input_ids"].offsets().diff().tolist()
        return Splits.padded(lengths, overhead, budget), [[row] for row in range(len(lengths))]
    prompts, responses = (data[name].offsets().diff().tolist() for name in ("prompts", "responses"))
    found = families(owners(data["prompts"].unbind()), prompts, responses, budget)
    return Splits.shared(found, overhead, budget), [family.rows for family in found]


def _highest(values: Sequence[float], group: Any) -> list[float]:
    """Of each value, the highest of all ranks."""
    if group is None or not distributed.is_initialized() or distributed.get_world_size(group) == 1:
        return list(values)
    from verl.utils.device import get_device_name

    tensor = torch.tensor(values, dtype=torch.float64, device=get_device_name())
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX, group=group)
    return tensor.tolist()
