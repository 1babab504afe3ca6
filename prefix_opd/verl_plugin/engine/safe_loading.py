"""A checkpoint is loaded as tensors and plain values, never as code.

verl loads its checkpoints with ``torch.load(..., weights_only=False)``, which runs whatever the file says. While one of
verl's loaders is at work (`guarded_loader`), ``torch.load`` of a file is weights-only here, for the thread that works.
What passes besides tensors, plain values and DTensors (verl's FSDP2 and FSDP keep their shards as such) are NumPy's
arrays of uint32, as its random states have them.

Everything else is left as it is, also in that thread: Ray's messages between verl's processes are torch pickles in
memory, and torch's own switch (TORCH_FORCE_WEIGHTS_ONLY_LOAD) would refuse them too.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct

from prefix_opd.base.errors import RunStopped

_ALLOWED = (
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    (_reconstruct, "numpy.core.multiarray._reconstruct"),  # written under NumPy 1
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
)

_thread = threading.local()
_lock = threading.Lock()
_open = 0
"""How many `weights_only` are open, in all threads: the first replaces torch's function, the last puts it back."""
_torch_load: Callable | None = None
_loading = threading.Lock()
"""torch keeps one list of what is allowed for all threads."""


def guarded_loader(verls_own: Callable) -> Callable:
    """One of verl's loaders of checkpoints, within `weights_only`."""

    @functools.wraps(verls_own)
    def load(*args, **kwargs):
        with weights_only():
            return verls_own(*args, **kwargs)

    return load


@contextmanager
def weights_only() -> Iterator[None]:
    """Within it and in this thread ``torch.load`` takes no code from files, whatever it is told.

    Raises:
        RunStopped: from ``torch.load``, for a file that holds what is not allowed.
    """
    global _open, _torch_load
    with _lock:
        if not _open:
            _torch_load, torch.load = torch.load, _guarded(torch.load)
        _open += 1
    _thread.depth = _depth() + 1
    try:
        yield
    finally:
        _thread.depth -= 1
        with _lock:
            _open -= 1
            if not _open:
                torch.load = _torch_load


def _depth() -> int:
    return getattr(_thread, "depth", 0)


def _guarded(original: Callable) -> Callable:
    @functools.wraps(original)
    def load(f: Any, *args, **kwargs) -> Any:
        if not _depth() or isinstance(f, io.BytesIO):  # another thread's, or a message from another process
            return original(f, *args, **kwargs)
        with _loading, torch.serialization.safe_globals(_not_yet_allowed()):
            try:
                return original(f, *args, **{**kwargs, "weights_only": True})
            except pickle.UnpicklingError as error:
                raise RunStopped(_told(f, str(error))) from error

    return load


def _not_yet_allowed() -> list:
    """`safe_globals` takes away what it was given, also what others had allowed for good."""
    allowed = torch.serialization.get_safe_globals()
    return [one for one in _ALLOWED if one not in allowed]


def _told(file: Any, message: str) -> str:
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else getattr(file, "name", "a file")
    found = re.search(r"GLOBAL (\S+) (?:was not|whose module)|but got (<.*?>)", message)
    holds = f"holds {found[1] or found[2]}, which could run code" if found else "holds no plain tensors and values"
    return (
        f"the checkpoint was not loaded: {name} {holds}; remove that checkpoint to go on from the one before it, "
        "or name another one: trainer.resume_from_path"
    )
