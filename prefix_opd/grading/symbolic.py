"""Equality by algebra. Runs in a worker process only: parsing what a model wrote may never end."""

from __future__ import annotations

import logging


def equal_by_algebra(answer: str, truth: str) -> bool:
    """Whether two LaTeX expressions are equal, as ``math-verify`` sees it.

    Both are put in a box, so that both are parsed alike and as a whole. Numbers that agree to six decimals are equal.
    math-verify's own time limits are alarms of the main thread; ours is the process that runs this.
    """
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # it warns once that its own limits are off

    def parsed(text: str) -> list:
        return parse(f"\\boxed{{{text}}}", parsing_timeout=None)

    return bool(verify(parsed(truth), parsed(answer), allow_set_relation_comp=True, timeout_seconds=None))
