"""The paper's findings, each with a rule that turns our numbers into a verdict.

`findings` computes every verdict from the lines of results.jsonl. *Higher* and *lower* mean that two bands (95% Wilson
interval over the problems, widened to the lowest and the highest seed) do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prefix_opd.analysis.compute import cost_of
from prefix_opd.analysis.prefixes import Prefixes
from reproduction.arms import BY_NAME, PREFIX
from reproduction.record import Place, Record, curve

HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not measured"
FIXED = ("prefix_3", "prefix_12", "prefix_24")
LATER = ("window_72_96", "last_24")

FLOP_AIM, SECONDS_AIM = 0.5, 0.6
"""The schedule's limits, relative to full OPD."""
HALF_GAIN_AIM = 0.1
"""FLOP limit of the best fixed prefix to reach half of full OPD's gain, relative to the FLOP of full OPD."""


@dataclass(frozen=True)
class Verdict:
    """The result of a rule, and the numbers behind it."""

    word: str
    """`HOLDS`, `PARTLY`, `FAILS` or `OPEN`."""
    numbers: str = ""


@dataclass(frozen=True)
class Evidence:
    """The input of the rules."""

    curves: Mapping[str, list[Place]]
    """Arm -> curve, for the arms that ran."""
    full: tuple[Record, ...] = ()
    """The runs of full OPD, for the signal by position."""
    prefixes: Mapping[str, Prefixes] = field(default_factory=dict)
    """Kind -> results: the student continues the teacher's prefix, or the reverse."""
    commits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Arm -> the commits of its runs."""

    @classmethod
    def of(cls, records: Sequence[Record], prefixes: Mapping[str, Prefixes] | None = None) -> Evidence:
        arms: dict[str, list[Record]] = {}
        for record in records:
            arms.setdefault(record.arm, []).append(record)
        return cls(
            {arm: curve(found) for arm, found in arms.items()},
            tuple(arms.get("full", ())),
            prefixes or {},
            {arm: frozenset(record.commit for record in found) for arm, found in arms.items()},
        )

    def last(self, *arms: str) -> list[Place]:
        """The last validation of each of ``arms`` that ran."""
        return [self.curves[arm][-1] for arm in arms if arm in self.curves]

    def share_of_seconds(self, arm: str) -> float | None:
        """Seconds relative to full OPD. None if the two ran different commits, which may differ in speed."""
        found = self.last(arm, "full")
        if len(found) < 2 or self.commits.get(arm) != self.commits.get("full"):
            return None
        return found[0].seconds / found[1].seconds

    @property
    def base(self) -> Place | None:
        """The student before training: the first arm's validation at step 0. All arms share weights and seeds there."""
        for places in self.curves.values():
            if places[0].step == 0:
                return places[0]
        return None


@dataclass(frozen=True)
class Claim:
    """A finding of the paper, and the rule that judges it here."""

    title: str
    paper: str
    rule: str
    judge: Callable[[Evidence], Verdict]


FINDINGS: list[Claim] = []
"""In the paper's order."""


def finding(title: str, paper: str, rule: str, arms: Sequence[str] = ()) -> Callable:
    """Add the decorated rule to `FINDINGS`. The rule gets the evidence and the last validation of each of ``arms``. Its
    verdict is `OPEN` if one of the arms did not run."""

    def add(rule_of: Callable[..., Verdict]) -> Callable[[Evidence], Verdict]:
        def judge(evidence: Evidence) -> Verdict:
            ends = evidence.last(*arms)
            return rule_of(evidence, *ends) if len(ends) == len(arms) else Verdict(OPEN)

        FINDINGS.append(Claim(title, paper, rule, judge))
        return judge

    return add


@finding(
    "The signal sits early",
    "|reverse KL| of a token is largest in the first positions (figure 2).",
    f"Mean |reverse KL| before position {PREFIX} over that after it, first quarter of full OPD's updates: above 1 "
    "in every seed.",
)
def signal_is_early(evidence: Evidence) -> Verdict:
    ratios = [early_over_late(record.signal, record.updates) for record in evidence.full]
    if not ratios or None in ratios:
        return Verdict(OPEN)
    numbers = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return Verdict(_all_or_some([ratio > 1 for ratio in ratios]), f"ratio by seed {numbers}")


def early_over_late(signal: Mapping[int, Mapping[int, float]], updates: int) -> float | None:
    """Mean |reverse KL| per token in the bins before position `PREFIX`, divided by that in the later bins.

    Bins have equal weight. Only the first quarter of the updates counts, before training changes the signal.
    """
    read = [bin for step, bins in signal.items() if step <= max(1, updates // 4) for bin in bins.items()]
    early = [value for position, value in read if position < PREFIX]
    late = [value for position, value in read if position >= PREFIX]
    if not early or not late:
        return None
    return (sum(early) / len(early)) / (sum(late) / len(late))


@finding(
    "A teacher's prefix helps the untrained student",
    "Accuracy jumps with the first few thousand tokens of a teacher's answer (figure 3).",
    "Higher with each measured prefix than with none.",
)
def teachers_prefix_helps(evidence: Evidence) -> Verdict:
    found = evidence.prefixes.get("teacher-prefix")
    if found is None:
        return Verdict(OPEN)
    without, given = found.points[0], found.points[1:]
    numbers = ", ".join(f"{one.length} tokens {one.accuracy:.1%}" for one in found.points)
    return Verdict(_all_or_some([one.interval[0] > without.interval[1] for one in given]), numbers)


@finding(
    "A prefix run reaches a given accuracy with far fewer FLOP early on",
    "8B reaches 23% on AIME-24 with 47 times less FLOP (prefix 256, 10 steps).",
    f"The best fixed prefix reaches half of full OPD's gain with at most {HALF_GAIN_AIM:.0%} of the FLOP "
    "that full OPD needs for it; in part: with fewer.",
    arms=("full",),
)
def early_compute_is_cheaper(evidence: Evidence, full: Place) -> Verdict:
    costs = half_gain_costs(evidence)
    if not evidence.last(*FIXED):
        return Verdict(OPEN)
    if not costs.get("full"):
        return Verdict(OPEN, "full OPD gained nothing")
    shares = {arm: costs[arm] / costs["full"] for arm in FIXED if costs.get(arm) is not None}
    if not shares:
        return Verdict(FAILS, "no fixed prefix reaches half of full OPD's gain")
    best = min(shares, key=shares.__getitem__)
    word = HOLDS if shares[best] <= HALF_GAIN_AIM else PARTLY if shares[best] < 1 else FAILS
    papers = half_gain_costs(evidence, "flops_paper")
    numbers = ", ".join(
        f"{BY_NAME[arm].label} {share:.1%} ({papers[arm] / papers['full']:.1%} by the paper's formula, without prompts)"
        for arm, share in shares.items()
    )
    numbers = f"FLOP to half of full OPD's gain, of what full OPD needs: {numbers}"
    if costs["full"] < evidence.curves["full"][1].flops:  # so nothing is known of where full OPD reaches it
        first = f"update {evidence.curves['full'][1].step}"
        return Verdict(
            OPEN, f"{numbers}. Full OPD is there before its first validation, {first}: a straight line's guess"
        )
    return Verdict(word, numbers)


def half_gain_costs(evidence: Evidence, kind: str = "flops") -> dict[str, float | None]:
    """FLOP (`cost_of`) of each arm to reach the base accuracy plus half of full OPD's gain; None if never reached.

    Empty if full OPD gained nothing. Omits arms without a validation before training (SeqKD).
    """
    full, base = evidence.curves.get("full"), evidence.base
    if not full or base is None or full[-1].accuracy <= base.accuracy:
        return {}
    target = base.accuracy + (full[-1].accuracy - base.accuracy) / 2
    return {arm: cost_of(places, target, kind) for arm, places in evidence.curves.items() if places[0].step == 0}


@finding(
    "A fixed short prefix loses the tail of a weak student",
    "1.7B ends at 48 to 58% on MATH500 with prefixes 256 to 2048, at 67% with full OPD.",
    "Full OPD ends higher than each fixed prefix; in part: than some.",
    arms=("full",),
)
def short_prefix_loses_the_tail(evidence: Evidence, full: Place) -> Verdict:
    lower = [full.above(one) for one in evidence.last(*FIXED)]
    return Verdict(_all_or_some(lower), _ends(evidence, "full", *FIXED)) if lower else Verdict(OPEN)


@finding(
    "The schedule reaches full OPD's accuracy with less",
    "68.1% against 67.3% on MATH500 (1.7B) at 42% of the FLOP and 45% of the hours.",
    f"The schedule's mean ends within full OPD's interval, after at most {FLOP_AIM:.0%} of its FLOP "
    f"and {SECONDS_AIM:.0%} of its training seconds; in part: full OPD does not end higher, and took more of one.",
    arms=("schedule", "full"),
)
def schedule_matches_full(evidence: Evidence, schedule: Place, full: Place) -> Verdict:
    flops, seconds = schedule.flops / full.flops, evidence.share_of_seconds("schedule")
    spent = [flops, seconds] if seconds is not None else [flops]
    met = [schedule.accuracy >= full.interval[0], flops <= FLOP_AIM, seconds is not None and seconds <= SECONDS_AIM]
    word = HOLDS if all(met) else PARTLY if not full.above(schedule) and min(spent) < 1 else FAILS
    told = "seconds not comparable (different commits)" if seconds is None else f"{seconds:.0%} of the seconds"
    return Verdict(word, f"{_ends(evidence, 'schedule', 'full')}; {flops:.0%} of the FLOP, {told}")


@finding(
    "A later window is worse than the first",
    "8B, AIME-24 after 30 steps: 34.8% with the first 1024 tokens, 16 to 24% with later windows (table 3).",
    "Window [0, 24) is higher than each later window at every validation after training began; in part: at some.",
    arms=("prefix_24",),
)
def later_windows_are_worse(evidence: Evidence, end: Place) -> Verdict:
    later = [arm for arm in LATER if arm in evidence.curves]
    if not later:
        return Verdict(OPEN)
    first = {place.step: place for place in evidence.curves["prefix_24"]}
    others = [place for arm in later for place in evidence.curves[arm] if place.step and place.step in first]
    higher = [first[place.step].above(place) for place in others]
    numbers = f"higher at {sum(higher)} of {len(higher)} validations; at the end {_ends(evidence, 'prefix_24', *later)}"
    return Verdict(_all_or_some(higher), numbers)


@finding(
    "Prefix SeqKD hurts where prefix OPD helps",
    "Off-policy learning of prefixes makes the tail repeat and become unreadable (appendix C).",
    "At the end prefix SeqKD is lower than the student before training, and prefix 24 is higher; in part: one.",
    arms=("prefix_seqkd", "prefix_24"),
)
def prefix_seqkd_hurts(evidence: Evidence, off_policy: Place, on_policy: Place) -> Verdict:
    if (base := evidence.base) is None:
        return Verdict(OPEN)
    met = [base.above(off_policy), on_policy.above(base)]
    return Verdict(_all_or_some(met), f"before {_share(base)}; {_ends(evidence, 'prefix_seqkd', 'prefix_24', 'seqkd')}")


@finding(
    "Reverse KL is stronger than forward KL on a prefix",
    "On-policy forward KL works, but less (section 5.3).",
    "Prefix 24 with reverse KL ends higher than with forward KL.",
    arms=("prefix_24", "forward_kl_24"),
)
def reverse_kl_is_stronger(evidence: Evidence, reverse: Place, forward: Place) -> Verdict:
    return Verdict(HOLDS if reverse.above(forward) else FAILS, _ends(evidence, "prefix_24", "forward_kl_24"))


@finding(
    "A high learning rate hurts",
    "Four times the learning rate hurts badly, a tenth needs more steps (table 4).",
    "The schedule ends higher at 3e-4 than at 1e-3.",
    arms=("schedule", "lr_1e-3"),
)
def high_learning_rate_hurts(evidence: Evidence, schedule: Place, high: Place) -> Verdict:
    return Verdict(HOLDS if schedule.above(high) else FAILS, _ends(evidence, "schedule", "lr_1e-3", "lr_1e-4"))


@finding(
    "Rollouts one update old teach as well",
    "Not asked in the paper: its rollouts are the updated policy's own.",
    "Full OPD one step early (`prefix_opd.rollout.off_policy_steps=1`) has its mean at the end within full OPD's "
    "interval; in part: full OPD does not end higher.",
    arms=("one_step_early", "full"),
)
def one_step_early_teaches_as_well(evidence: Evidence, early: Place, full: Place) -> Verdict:
    word = HOLDS if early.accuracy >= full.interval[0] else PARTLY if not full.above(early) else FAILS
    return Verdict(word, _ends(evidence, "one_step_early", "full"))


# ---- words ----


def _all_or_some(met: Sequence[bool]) -> str:
    return HOLDS if met and all(met) else PARTLY if any(met) else FAILS


def _ends(evidence: Evidence, *arms: str) -> str:
    return ", ".join(
        f"{BY_NAME[arm].label} {_share(evidence.curves[arm][-1])}" for arm in arms if arm in evidence.curves
    )


def _share(place: Place) -> str:
    low, high = place.band
    return f"{place.accuracy:.1%} ({100 * low:.1f} to {100 * high:.1f})"
