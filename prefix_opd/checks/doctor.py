"""Checks, before a run starts, for what makes OPD fail silently.

A tour:

``finding``     the result of a check: ok, warn or fail, the reason, the remedy
``case``        the run under check
``checks``      the list of checks
``vocabulary``  ``prompts``  ``room``  ``data``  ``versions``     the checks, by subject
``gpu``         of the machine's GPUs; ``gpu_probe`` tries kernels and processes on them
``engines``     real engines sample and score; ``forward`` computes the trainer's log-probs
``signal``      the checks of these scores
``view``        the table
"""

from __future__ import annotations

from collections.abc import Sequence

from prefix_opd.base.errors import UserError
from prefix_opd.checks import gpu
from prefix_opd.checks.case import Case
from prefix_opd.checks.checks import ALL, QUICK, WITH_ENGINES, look
from prefix_opd.checks.finding import Finding, Status, fail
from prefix_opd.checks.surface import check_surface

QUICK_PROMPTS = 256
"""Number of prompts that `quick` tokenizes."""


def quick(config) -> list[Finding]:
    """The checks that take a second or two, for a run that `prefix_opd.checks.preflight` has accepted."""
    checks = QUICK if config.platform == "cpu" else (*QUICK, *gpu.QUICK)
    return look(checks, Case.open(config, sample=QUICK_PROMPTS))


def diagnose(config, engines: bool = False) -> list[Finding]:
    """Run every check on a composed config.

    Args:
        engines: also start the vLLM engines of student and teacher.

    Raises:
        UserError: an unused setting, or a model or data file that cannot be read.
    """
    check_surface(config)
    case = Case.open(config)
    found = look(ALL if config.platform == "cpu" else (*ALL, *gpu.CHECKS), case)
    return found + _with_engines(case) if engines else found


def _with_engines(case: Case) -> list[Finding]:
    from prefix_opd.checks import engines, signal

    found = look(WITH_ENGINES, case)
    for source, one in case.by_teacher:
        name = f" ({source})" if source else ""
        try:
            scores = engines.measure(one)
        except UserError as error:
            return [*found, fail(f"{error.what}: {error.rule}", error.fix).named(f"engines{name}")]
        found += look([(f"{check}{name}", function) for check, function in signal.CHECKS], scores)
    return found


def worst(findings: Sequence[Finding]) -> Status:
    return max((finding.status for finding in findings), key=list(Status).index)
