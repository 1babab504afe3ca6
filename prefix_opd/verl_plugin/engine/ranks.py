"""What the data-parallel ranks of an update agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed


def highest(values: Sequence[float], group: Any) -> list[float]:
    """The maximum of each value over all ranks."""
    if group is None or not distributed.is_initialized() or distributed.get_world_size(group) == 1:
        return list(values)
    from verl.utils.device import get_device_name

    tensor = torch.tensor(values, dtype=torch.float64, device=get_device_name())
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX, group=group)
    return tensor.tolist()
