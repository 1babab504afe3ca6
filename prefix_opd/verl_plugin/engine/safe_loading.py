"""Load checkpoints as tensors and plain values, never as code.

verl loads its checkpoints with ``torch.load(..., weights_only=False)``, which runs any code in the file. Within one of
verl's loaders (`guarded_loader`), ``torch.load`` of a file is weights-only. Other threads are not affected. Allowed are
tensors, plain values, DTensors (the shards of verl's FSDP and FSDP2) and NumPy's uint32 arrays (its random states).

Loads from memory are unchanged, also within a loader: Ray's messages between verl's processes are torch pickles in
memory. torch's own switch (TORCH_FORCE_WEIGHTS_ONLY_LOAD) would reject those too.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct

from prefix_opd.base.errors import RunStopped
from prefix_opd.base.patching import around

_ALLOWED = (
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    (_reconstruct, "numpy.core.multiarray._reconstruct"),  # written under NumPy 1
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
)

_guarded: ContextVar[bool] = ContextVar("prefix_opd_weights_only", default=False)
_loading = threading.Lock()
"""Guards torch's list of allowed classes, which all threads share."""


@around
def guarded_loader(verls_own, *args, **kwargs):
    """One of verl's checkpoint loaders, within `weights_only`."""
    with weights_only():
        return verls_own(*args, **kwargs)


@contextmanager
def weights_only() -> Iterator[None]:
    """Make ``torch.load`` of files weights-only in this thread, whatever its arguments.

    Raises:
        RunStopped: from ``torch.load``, for a file with content that is not allowed.
    """
    outside = _guarded.set(True)
    try:
        yield
    finally:
        _guarded.reset(outside)


@around
def guarded_load(torch_load, f: Any, *args, **kwargs) -> Any:
    """``torch.load`` that obeys `weights_only`."""
    if not _guarded.get() or isinstance(f, io.BytesIO):  # another thread, or a message from another process
        return torch_load(f, *args, **kwargs)
    with _loading:
        allowed = torch.serialization.get_safe_globals()
        # on exit `safe_globals` removes all that it was given, even if allowed before
        with torch.serialization.safe_globals([one for one in _ALLOWED if one not in allowed]):
            try:
                return torch_load(f, *args, **{**kwargs, "weights_only": True})
            except pickle.UnpicklingError as error:
                raise RunStopped(_told(f, str(error))) from error


def _told(file: Any, message: str) -> str:
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else getattr(file, "name", "a file")
    found = re.search(r"GLOBAL (\S+) (?:was not|whose module)|but got (<.*?>)", message)
    holds = (
        f"holds {found[1] or found[2]}, which could run code" if found else "holds more than plain tensors and values"
    )
    return (
        f"the checkpoint was not loaded: {name} {holds}; remove that checkpoint to go on from the one before it, "
        "or name another one: trainer.resume_from_path"
    )
