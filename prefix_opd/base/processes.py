"""Child processes."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def python_module(module: str, arguments: Sequence[str]) -> list[str]:
    """A command line for a module of this environment."""
    return [sys.executable, "-m", module, *arguments]
