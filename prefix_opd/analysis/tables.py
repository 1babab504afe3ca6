"""The analyses as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefix_opd.analysis.compute import Compute
from prefix_opd.analysis.prefixes import DECIDED, Prefixes
from prefix_opd.analysis.schedule import PHASES, Schedule
from prefix_opd.analysis.signal import Signal
from prefix_opd.base.terminal import between, table

if TYPE_CHECKING:
    from prefix_opd.analysis.advice import Advice


def signal_table(found: Signal):
    made = table(
        f"{found.name}: reverse KL by position, bins of {found.width}",
        ("step, rollouts", "L", "from position", "tokens", "mean |KL|", "mean KL"),
        "nats a token; KL = log p_student - log p_teacher of the sampled tokens",
    )
    for curve in found.curves:
        for one in curve.bins:
            row = (f"{curve.step}, {curve.group}", f"{curve.prefix_length}", f"{one.first}", f"{one.tokens}")
            made.add_row(*row, f"{one.abs_mean:.4f}", f"{one.mean:+.4f}")
        made.add_section()
    return made


def advice_table(found: Advice):
    made = table(
        f"{found.responses} answers of the untrained student, mean length {found.mean_response:.0f} tokens; "
        f"the teacher's {found.mean_answer:.0f}",
        ("from position", "tokens", "mean |KL|", "mean KL", "signal up to here"),
    )
    for one, share in zip(found.bins, found.shares, strict=True):
        made.add_row(f"{one.first}", f"{one.tokens}", f"{one.abs_mean:.4f}", f"{one.mean:+.4f}", f"{share:.1%}")
    return made


def compute_table(found: Compute):
    than = f" of {found.reference}" if found.reference else ""
    made = table(
        f"to reach {found.target:.1%}",
        ("run", "FLOP", "FLOP (paper)", "seconds", f"FLOP{than} / this", f"seconds{than} / this"),
        "linear between evaluations; training only, without validation and start-up",
    )
    for cost in found.costs:
        made.add_row(
            cost.name,
            *("never" if value is None else f"{value:.3g}" for value in (cost.flops, cost.paper_flops, cost.seconds)),
            *(f"{cost.ratios[kind]:.2f}x" if kind in cost.ratios else "" for kind in ("flops", "seconds")),
        )
    return made


def schedule_table(found: Schedule):
    made = table(
        f"{found.name}: {len(found.steps)} updates",
        ("step", "L", "mean length", "cut", "ended", *(f"{phase.replace('_', ' ')} s" for phase in PHASES), "step s"),
    )
    for one in found.steps:
        seconds = (f"{one.seconds[phase]:.2f}" for phase in (*PHASES, "step"))
        shares = (f"{one.cut:.0%}", f"{one.natural:.0%}")
        made.add_row(f"{one.step}", f"{one.prefix_length}", f"{one.mean_length:.1f}", *shares, *seconds)
    return made


def prefixes_table(found: Prefixes):
    giver, receiver = found.sides
    made = table(
        f"{receiver} after the {giver}'s first L tokens: {found.problems} problems x {found.samples}",
        ("L", "tokens given", "accuracy", "95% interval", "lost against L=0", "95% interval"),
        f"the {giver} alone: {found.giver:.1%}; a prefix ends {found.margin} tokens before its answer does",
    )
    for one in found.points:
        drop, low, high = one.drop
        made.add_row(
            f"{one.length}",
            f"{one.mean_length:.1f}",
            f"{one.accuracy:.1%}",
            between(one.interval),
            f"{drop:+.1%}" if one.length else "",
            between((low, high), sign="+") if one.length else "",
        )
    return made


def advice(found: Prefixes) -> str:
    """One sentence: the L to train with, by `prefixes.choose_length`."""
    if found.chosen is None:
        return (
            f"no tested L decides {DECIDED:.0%} of the gap between teacher and student beyond the 95% interval: "
            "test longer ones (--lengths) or more problems (--problems), or train with full OPD"
        )
    return (
        f"choose L={found.chosen}: the shortest tested prefix of the student that costs the teacher at least "
        f"{DECIDED:.0%} of the gap between the two, beyond the 95% interval"
    )
