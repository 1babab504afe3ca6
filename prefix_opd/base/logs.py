"""Logging of this package, independent of how the libraries of a run configure logging."""

from __future__ import annotations

import logging
import sys


def configure() -> None:
    """Show the warnings of this package on stderr. Call it after the imports of a process.

    verl's rollout server sets the root logger to ERROR when it is imported
    (verl/workers/rollout/vllm_rollout/vllm_async_server.py), which would hide all warnings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    ours = logging.getLogger("prefix_opd")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
