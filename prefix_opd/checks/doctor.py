"""Checks, before a run starts, for what makes OPD fail silently.

A tour:

``finding``     the result of a check: ok, warn or fail, the reason, the remedy; the table
``case``        the run under check
``models``  ``prompts``  ``room``  ``data``  ``versions``     the checks, by subject
``gpu``         of the machine's GPUs; ``gpu_probe`` tries kernels and processes on them
``engines``     real engines sample and score; a forward pass computes the trainer's log-probs
``signal``      the checks of these scores
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial

from prefix_opd.base.errors import UserError
from prefix_opd.checks import data, gpu, models, prompts, room, versions
from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, Status, fail, ok
from prefix_opd.checks.preflight import check
from prefix_opd.checks.surface import check_surface
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY

QUICK_PROMPTS = 256
"""Number of prompts that `quick` tokenizes."""

Check = tuple[str, Callable[..., Finding]]


def accepted(case: Case) -> Finding:
    """`train` makes this check before anything starts, and stops at its first error."""
    check(deepcopy(case.config))
    return ok("`prefix-opd train` accepts them")


QUICK: tuple[Check, ...] = (
    ("packages", versions.pinned_packages),
    ("special tokens", models.same_special_tokens),
    ("embedding rows", models.embedding_rows),
    ("sizes of weights", models.sizes_of_weights),
    ("end tokens", models.end_tokens),
    ("roles", data.roles),
    ("chat templates", prompts.same_template),
    ("thinking mode", prompts.thinking_mode),
    ("empty prompts", data.empty_prompts),
    ("long prompts", data.long_prompts),
    ("duplicates", data.duplicates),
    ("true answers", data.true_answers),
    ("memory", room.memory),
    ("disk", room.disk),
)
"""Checks before each run, in addition to `prefix_opd.checks.preflight`."""

ALL: tuple[Check, ...] = (
    ("verl", versions.verl_release),
    ("settings", accepted),
    ("weights", models.safe_weights),
    ("vocabulary", models.same_ids),
    ("forced ending", prompts.forced_ending),
    ("prompt", prompts.prompt_by_token),
    ("teacher's prompt", prompts.teachers_prompt),
    ("room for tokens", room.tokens),
    ("sampling", room.sampling),
    ("batches", room.batches),
    ("loss", room.loss),
    ("probe", room.probe),
    ("run folder", room.folder),
    (TRAIN_KEY, partial(data.columns, TRAIN_KEY)),
    (VAL_KEY, partial(data.columns, VAL_KEY)),
    ("teachers", data.teachers_of_sources),
    *QUICK,
)

WITH_ENGINES: tuple[Check, ...] = (("hooks of verl", versions.verl_hooks),)
"""Slow checks that run only with the engines; `prefix_opd.checks.signal` checks the engines' scores."""

OF_EACH_TEACHER = (
    models.safe_weights,
    models.embedding_rows,
    models.sizes_of_weights,
    models.same_ids,
    models.same_special_tokens,
    models.end_tokens,
    prompts.same_template,
    room.tokens,
)
"""Checks that are made with one teacher after the other where a run has several."""


def quick(config) -> list[Finding]:
    """The checks that take a second or two, for a run that `prefix_opd.checks.preflight` has accepted."""
    checks = QUICK if config.platform == "cpu" else (*QUICK, *gpu.QUICK)
    return look(checks, Case.open(config, sample=QUICK_PROMPTS))


def diagnose(config, engines: bool = False) -> list[Finding]:
    """Run every check on a composed config; ``engines``: also start the vLLM engines of student and teacher.

    Raises UserError for an unused setting, or a model or data file that cannot be read.
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
        found += look([(f"{what}{name}", function) for what, function in signal.CHECKS], scores)
    return found


def look(checks: Iterable[Check], subject) -> list[Finding]:
    """Run every check on ``subject``, a `Case` or the engines' scores. A UserError of a check becomes a fail."""
    return [
        _one(f"{name} ({source})" if source else name, made, one)
        for name, made in checks
        for source, one in (subject.by_teacher if made in OF_EACH_TEACHER else [("", subject)])
    ]


def _one(name: str, made: Callable[..., Finding], subject) -> Finding:
    try:
        return made(subject).named(name)
    except UserError as error:
        return fail(f"{error.what}: {error.rule}", error.fix).named(name)
    except Exception as error:  # a check that crashes must not hide the findings of the others
        why = " ".join(str(error).split())[:200]
        return fail(f"the check itself failed ({type(error).__name__}: {why})", "look at what it names").named(name)


def worst(findings: Sequence[Finding]) -> Status:
    return max((finding.status for finding in findings), key=list(Status).index)
