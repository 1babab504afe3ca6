"""Micro-batches by length for updates with padded sequences.

`prefix_opd.method.micro_batches` splits the batch, and the token limit includes padding. With shared prompts
(`update_tokens`) the rollouts of a prompt on this rank stay together. Loss and metrics are normalised by the whole
mini-batch, so the gradient does not change.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from prefix_opd.base.patching import around
from prefix_opd.method.micro_batches import FURTHER, Splits, cheapest_number, families
from prefix_opd.method.shared_prompts import owners
from prefix_opd.verl_plugin.engine.layers import highest
from prefix_opd.verl_plugin.engine.update_tokens import FORM, SHARED
from prefix_opd.verl_plugin.fields import SETTINGS


@around
def by_length(verls_own, data, dp_group=None, **settings):
    """``prepare_micro_batches`` of verl's FSDP engine. Batches without our settings keep verl's split."""
    from verl.utils import tensordict_utils as tu

    groups = _groups(tu, data, dp_group)
    if groups is None:
        return verls_own(data=data, dp_group=dp_group, **settings)
    return [tu.index_select_tensor_dict(data, rows) for rows in groups], groups


def _groups(tu: ModuleType, data: Any, dp_group: Any) -> list[list[int]] | None:
    """The rows of each micro-batch; None: use verl's split. All data-parallel ranks get the same number.

    ``tu``: verl.utils.tensordict_utils.
    """
    read = functools.partial(tu.get_non_tensor_data, data)
    padded = not read("use_remove_padding", default=True) and read("use_dynamic_bsz", default=True)
    settings = read(SETTINGS, default=None)
    overhead = None if settings is None else settings.update.micro_batch_cost
    if overhead is None or not padded or read("force_group_size", default=1) != 1:
        return None
    splits, rows = _splits(data, overhead, shared=read(FORM, default=None) == SHARED)
    # FSDP's collectives need the same number of passes on every rank: minimise the cost of the most expensive rank.
    most = FURTHER + int(highest([splits.fewest()], dp_group)[0])
    costs = splits.cheapest(most)
    if not all(row.any() for row in data["loss_mask"].unbind()):
        # an agent loop may mask a whole rollout: the min metrics fail on a micro-batch of such rollouts alone
        costs = [float("inf")] * most
    number = cheapest_number(highest(costs, dp_group))
    if number is None:
        return None
    return [sorted(itertools.chain(*(rows[item] for item in group))) for group in splits.groups(number)]


def _splits(data: Any, overhead: int, shared: bool) -> tuple[Splits, Sequence[Sequence[int]]]:
    """The possible groups, and the rows of each item."""
    budget = data["max_token_len_per_gpu"]
    if not shared:
        lengths = data["input_ids"].offsets().diff().tolist()
        return Splits.padded(lengths, overhead, budget), [[row] for row in range(len(lengths))]
    prompts, responses = (data[name].offsets().diff().tolist() for name in ("prompts", "responses"))
    found = families(owners(data["prompts"].unbind()), prompts, responses, budget)
    return Splits.shared(found, overhead, budget), [family.rows for family in found]
