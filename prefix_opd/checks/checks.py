"""The checks of `prefix-opd doctor`, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prefix_opd.base.errors import UserError
from prefix_opd.checks import data, prompts, room, versions, vocabulary, weights
from prefix_opd.checks.finding import Finding, fail
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY

Check = tuple[str, Callable[..., Finding]]

QUICK: tuple[Check, ...] = (
    ("packages", versions.pinned_packages),
    ("special tokens", vocabulary.same_special_tokens),
    ("embedding rows", weights.embedding_rows),
    ("end tokens", vocabulary.end_tokens),
    ("chat templates", prompts.same_template),
    ("thinking mode", prompts.thinking_mode),
    ("empty prompts", data.empty_prompts),
    ("long prompts", data.long_prompts),
    ("duplicates", data.duplicates),
    ("memory", room.memory),
    ("disk", room.disk),
)
"""Checks before each run, in addition to `prefix_opd.checks.preflight`."""

ALL: tuple[Check, ...] = (
    ("verl", versions.verl_release),
    ("weights", weights.safe_weights),
    ("vocabulary", vocabulary.same_ids),
    ("forced ending", prompts.forced_ending),
    ("prompt", prompts.prompt_by_token),
    ("teacher's prompt", prompts.teachers_prompt),
    ("room for tokens", room.tokens),
    ("sampling", room.sampling),
    ("batches", room.batches),
    ("loss", room.loss),
    ("probe", room.probe),
    ("run folder", room.folder),
    (TRAIN_KEY, data.columns(TRAIN_KEY)),
    (VAL_KEY, data.columns(VAL_KEY)),
    ("teachers", data.teachers_of_sources),
    *QUICK,
)

WITH_ENGINES: tuple[Check, ...] = (("hooks of verl", versions.verl_hooks),)
"""Slow checks that run only with the engines; `prefix_opd.checks.signal` checks the engines' scores."""


OF_EACH_TEACHER = (
    weights.safe_weights,
    weights.embedding_rows,
    vocabulary.same_ids,
    vocabulary.same_special_tokens,
    vocabulary.end_tokens,
    prompts.same_template,
    room.tokens,
)
"""Checks that are made with one teacher after the other where a run has several."""


def look(checks: Iterable[Check], subject) -> list[Finding]:
    """Run every check on ``subject``, a `Case` or the engines' scores. A UserError of a check becomes a fail."""
    return [
        _one(f"{name} ({source})" if source else name, check, one)
        for name, check in checks
        for source, one in (subject.by_teacher if check in OF_EACH_TEACHER else [("", subject)])
    ]


def _one(name: str, check: Callable[..., Finding], subject) -> Finding:
    try:
        return check(subject).named(name)
    except UserError as error:
        return fail(f"{error.what}: {error.rule}", error.fix).named(name)
    except Exception as error:  # a check that crashes must not hide the findings of the others
        why = " ".join(str(error).split())[:200]
        return fail(f"could not be looked at ({type(error).__name__}: {why})", "look at what it names").named(name)
