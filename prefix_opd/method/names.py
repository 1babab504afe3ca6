"""Names of a run's metrics. Producers add the prefix `OURS`; readers use these constants."""

from __future__ import annotations

import re
from collections.abc import Mapping

OURS = "prefix_opd/"

PREFIX_LENGTH = "prefix_opd/prefix_length"
"""L of the update, tokens. Only lines of updates have this metric; all other lines are validations."""
RESPONSE_LENGTH = "prefix_opd/response_length/mean"
CUT = "prefix_opd/ending/cut_fraction"
NATURAL = "prefix_opd/ending/natural_fraction"
FLOPS = "prefix_opd/flops_exact/so_far"
FLOPS_PAPER = "prefix_opd/flops_paper/so_far"
PROMPT_LENGTH = "prefix_opd/prompt_length/mean"
TOKENS_GENERATED = "prefix_opd/tokens/generated"
TOKENS_SCORED = "prefix_opd/tokens/scored"
TOOL_TOKENS = "prefix_opd/tool_tokens/mean"
"""Tokens of tool outputs in a rollout. The teacher scores them; the student does not generate them."""
SIGNAL, THRESHOLD = "prefix_opd/schedule/signal", "prefix_opd/schedule/threshold"
"""What decided about L in a schedule that adapts (`Schedule.signal_of`), in the schedule's own unit."""
REVERSE_KL = "prefix_opd/reverse_kl/mean"
ENTROPY_BY_POSITION = "prefix_opd/entropy_by_position/"
"""Prefix of the bins: mean -log p of the sampled tokens, an estimate of the student's entropy."""
RELIABLE_MAX, RELIABLE_REACHED = "prefix_opd/reliable_length/max", "prefix_opd/reliable_length/reached_fraction"
SECONDS_STEP = "prefix_opd/seconds/step"
"""Seconds of the whole update, without probe and validation."""
SECONDS_SINCE_START = "prefix_opd/seconds/since_start"
PROBE_LENGTH = "prefix_opd/probe/response_length/mean"
PROBE_SQUARES = "prefix_opd/probe/reverse_kl_square_by_position/"
"""Prefix of the bins: mean square of log p_student - log p_teacher."""
PROBE_FLOPS, PROBE_SECONDS = "prefix_opd/probe/flops_exact", "prefix_opd/probe/seconds"
TAIL_RATIO = "prefix_opd/probe/tail_ratio"
WARNED = "prefix_opd/watch/warned"
THROWN_AWAY = "prefix_opd/watch/thrown_away"
VALIDATION_MISSING = "prefix_opd/watch/validation_missing"

NEEDED = (FLOPS, FLOPS_PAPER, SECONDS_STEP, RESPONSE_LENGTH, CUT, NATURAL, TOKENS_GENERATED, TOKENS_SCORED)
"""Every update of this version has these metrics."""
PHASES = ("rollout", "score", "update", "weight_sync")
"""Phases of an update, see `seconds`."""
GROUPS = ("all", "cut", "natural", "probe")
"""All rollouts of the step; rollouts cut at L; rollouts with a natural end; the uncapped rollouts of the probe."""
_ACCURACY = re.compile(r"val-core/(?P<source>.+)/(?:acc|reward)/mean@(?P<k>\d+)")
_TEACHER = re.compile(r"prefix_opd/teacher/(?P<source>.+)/(?P<metric>tokens|flops_exact|reverse_kl/[a-z_]+)")
_VALIDATION_LENGTH = re.compile(r"val-aux/.+/response_length/mean@\d+")


def seconds(phase: str) -> str:
    """The name for the seconds of a phase (one of `PHASES`, or ``step`` for the whole update)."""
    return f"prefix_opd/seconds/{phase}"


def accuracies(line: Mapping[str, float]) -> dict[str, tuple[float, int]]:
    """Data set -> (accuracy, k samples per problem) in a line of metrics; empty without a validation."""
    found = ((_ACCURACY.fullmatch(name), value) for name, value in line.items())
    return {match["source"]: (value, int(match["k"])) for match, value in found if match}


def validation_lengths(line: Mapping[str, float]) -> list[float]:
    """Mean length of a validation response, tokens, one number per data set."""
    return [value for name, value in line.items() if _VALIDATION_LENGTH.fullmatch(name)]


def by_position(group: str) -> tuple[str, str, str]:
    """Name prefixes of the bins of a group (of `GROUPS`): mean reverse KL, mean magnitude, number of tokens.

    The first position of the bin follows the prefix.
    """
    probe, infix = ("probe/", "") if group == "probe" else ("", "" if group == "all" else f"{group}/")
    counted = "" if group == "probe" else f"{group}/"
    return (
        f"prefix_opd/{probe}reverse_kl_by_position/{infix}",
        f"prefix_opd/{probe}reverse_kl_abs_by_position/{infix}",
        f"prefix_opd/{probe}tokens_by_position/{counted}",
    )


def of_teachers(line: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Data source -> metric -> value, of a run with several teachers."""
    found: dict[str, dict[str, float]] = {}
    for name, value in line.items():
        if match := _TEACHER.fullmatch(name):
            found.setdefault(match["source"], {})[match["metric"]] = value
    return found


def bins(line: Mapping[str, float], prefix: str) -> dict[int, float]:
    """First position -> value, for all names that consist of ``prefix`` and a position."""
    ends = ((name.removeprefix(prefix), value) for name, value in line.items() if name.startswith(prefix))
    return {int(end): value for end, value in ends if end.isdecimal()}


ALL = (
    *(PREFIX_LENGTH, "prefix_opd/prefix_length/min", REVERSE_KL, "prefix_opd/reverse_kl/{abs_mean,max}"),
    *(PROMPT_LENGTH, SIGNAL, THRESHOLD),
    *(RESPONSE_LENGTH, "prefix_opd/response_length/max", CUT, NATURAL, "prefix_opd/ending/{other,tools}_fraction"),
    *("prefix_opd/turns/mean", TOOL_TOKENS),
    *("prefix_opd/fingerprint/{prompts,rollouts}", SECONDS_SINCE_START, "prefix_opd/seconds/{overlap,turns}"),
    *map(seconds, (*PHASES, "step")),
    "prefix_opd/teacher/*/{tokens,flops_exact,reverse_kl/mean,reverse_kl/abs_mean,reverse_kl/max}",
    "prefix_opd/flops_{exact,paper}/{sampling,student_scoring,teacher_scoring,update,total,so_far}",
    "prefix_opd/{tokens,tokens_so_far}/{generated,scored,trained}",
    "prefix_opd/ratio/{mean,max,min,truncated_fraction}",
    *("prefix_opd/log_prob_diff/{mean,abs_mean,abs_max}", "prefix_opd/advantage/clamped_fraction"),
    *(f"{prefix}#" for group in GROUPS for prefix in by_position(group)),
    *(f"{ENTROPY_BY_POSITION}#", "prefix_opd/reliable_length/mean", RELIABLE_MAX, RELIABLE_REACHED),
    *(TAIL_RATIO, PROBE_LENGTH, PROBE_FLOPS, PROBE_SECONDS, "prefix_opd/probe/{failed,flops_exact/so_far}"),
    f"{PROBE_SQUARES}#",
    *(WARNED, THROWN_AWAY, VALIDATION_MISSING, "prefix_opd/watch/{missing,not_finite,repetition,uniform_teacher}"),
    "prefix_opd/watch/{reverse_kl,endless,tool_output,not_finite_update,gradient_norm,sampler_mismatch}",
    "prefix_opd/watch/validation_endless",
)
"""All metrics of this package. ``{a,b}`` stands for a or b, ``#`` for a position, ``*`` for a data source."""
