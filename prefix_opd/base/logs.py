"""Where this package's own words go, whatever the libraries of a run make of Python's logging."""

from __future__ import annotations

import logging
import sys


def configure() -> None:
    """Show our warnings on stderr. Call it in a process that warns, after its imports.

    verl's rollout server raises the root logger to ERROR when it is imported
    (verl/workers/rollout/vllm_rollout/vllm_async_server.py), which would silence everyone's warnings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    ours = logging.getLogger("prefix_opd")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
