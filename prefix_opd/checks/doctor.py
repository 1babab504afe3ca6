"""What makes an OPD run fail in silence, looked for before it starts.

A tour:

``finding``     what a check says: ok, warn or fail, the reason, the remedy
``case``        the run that is looked at
``checks``      the list of checks
``vocabulary``  ``prompts``  ``room``  ``data``  ``versions``     the checks, by subject
``engines``     real engines that sample and score, with ``forward``, the trainer's side
``signal``      the checks of their scores
``view``        the table
"""

from __future__ import annotations

from collections.abc import Sequence

from prefix_opd.base.errors import UserError
from prefix_opd.checks.case import Case
from prefix_opd.checks.checks import ALL, QUICK, WITH_ENGINES, look
from prefix_opd.checks.finding import Finding, Status, fail
from prefix_opd.checks.surface import check_surface

QUICK_PROMPTS = 256
"""Prompts that the quick part tokenizes."""


def quick(config) -> list[Finding]:
    """What takes a second or two: beside a run that `prefix_opd.checks.preflight` has accepted."""
    return look(QUICK, Case.open(config, sample=QUICK_PROMPTS))


def diagnose(config, engines: bool = False) -> list[Finding]:
    """Every check of a composed config.

    Args:
        engines: bring up the student's and the teacher's vLLM engines as well.

    Raises:
        UserError: a setting that no run reads, a model or a data file that cannot be looked at at all.
    """
    check_surface(config)
    case = Case.open(config)
    found = look(ALL, case)
    return found + _with_engines(case) if engines else found


def _with_engines(case: Case) -> list[Finding]:
    from prefix_opd.checks import engines, signal

    hooks = look(WITH_ENGINES, case)
    try:
        scores = engines.measure(case)
    except UserError as error:
        return [*hooks, fail(f"{error.what}: {error.rule}", error.fix).named("engines")]
    return hooks + look(signal.CHECKS, scores)


def worst(findings: Sequence[Finding]) -> Status:
    return max((finding.status for finding in findings), key=list(Status).index)
