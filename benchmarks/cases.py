"""What is measured. A case is one run; a group is one question."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

OURS = "ours"
NATIVE_POLL, NATIVE = "native_poll", "native"
"""verl's own trainer; it polls for finished rollouts every 0.05 s, as ours does, or every 2 s, its default."""
VERLS_OWN = (NATIVE_POLL, NATIVE)
TRL = ("trl_gkd", "trl_distillation", "trl_iw_opd")
SYSTEMS = (OURS, *VERLS_OWN, *TRL)

TINY = "tiny"
"""The miniature's trained models; any other name is a size of `benchmarks.models`."""

LARGE = "6M"
"""The size at which the model, not the frame around it, takes most of a step on a CPU."""

FULL = 192
"""The longest response of the miniature, tokens."""

PROMPT = 32
"""The longest prompt of the miniature, tokens."""

MEASURED = tuple(
    f"benchmarks/{name}"
    for name in (
        *("clock.py", "models.py", "poll.py", "prompts.py", "steps.py", "verl_run.py"),
        *("requirements-trl.txt", "trl_run.py", "trl_script.py"),
    )
)
"""With `harness.machine.CODE`, the files that a row depends on: a commit that touches none of them leaves it valid."""

RECOMPUTED, SEEDED = "no old-log-prob pass", "no seed for each rollout"
WITHOUT = {
    "final output only": "prefix_opd.rollout.final_output_only=false",
    "a look every 0.05 s": "prefix_opd.poll_seconds=2",
    RECOMPUTED: "prefix_opd.advantage.student_log_prob=recomputed",
    SEEDED: "prefix_opd.rollout.seeded=0",
    "prompts computed once": "prefix_opd.update.share_prompts=false",
    "logits of responses only": "prefix_opd.update.response_logits_only=false",
}
"""Savings of ours that a setting switches off, with that override."""

SHARED, CUT = "prompts computed once", "update cut by length"
CUT_PADDED = f"{CUT}, {SHARED} off"
APART, APART_IN_TURNS = "teacher's own device", "teacher's own device, phases that overlap"
SWITCHED = {
    CUT: "prefix_opd.update.micro_batch_cost=null",
    CUT_PADDED: f"{WITHOUT[SHARED]} prefix_opd.update.micro_batch_cost=null",
    "server asked directly": "prefix_opd.patches_off=[direct_route]",
    "writes in groups": "prefix_opd.patches_off=[group_commit]",
    APART: "prefix_opd.teacher.placement=shared",
    APART_IN_TURNS: "prefix_opd.teacher.placement=shared prefix_opd.teacher.phases=turns",
}
"""Savings that are measured on cases of their own, with the overrides that switch them off."""

BESIDE = {CUT_PADDED: SHARED}
"""The run that a run without a saving is compared with, if that is not the one with all savings."""


@dataclass(frozen=True)
class Case:
    """One run. End tokens are ignored in all systems, so every response has exactly the cap's length, unless
    ``natural``."""

    system: str
    """One of `SYSTEMS`."""
    caps: tuple[int, ...]
    """Response tokens. One run of ours may take several, by its schedule `steps`."""
    model: str = TINY
    """The size of student and teacher; their weights differ."""
    prompts: int = 16
    """Prompts a step."""
    rollouts: int = 4
    """Rollouts a prompt."""
    ranks: int = 1
    """Training processes."""
    longest: int = FULL
    """The configured maximum of ours, ``data.max_response_length``; verl's own has its cap there."""
    without: str = ""
    """One of `WITHOUT` or `SWITCHED`: ours with that saving switched off."""
    message: tuple[int, ...] = ()
    """Shortest and longest user message of ours, tokens, uniformly distributed; empty: the miniature's questions."""
    natural: bool = False
    """Ours, with responses that may end before the cap, and a seed for each rollout."""
    early: bool = False
    """Ours, sampling one step early."""
    warm: int = 2
    """Warm-up steps at each cap, which do not count; at least 1, because the first step of a run cannot be timed."""
    measured: int = 5
    """Steps at each cap that count."""
    observed: bool = False
    """Watch the processes for start-up and memory. Watching costs time, so the steps of such a run do not count."""

    def __post_init__(self):
        if self.system not in SYSTEMS:
            raise ValueError(f"system={self.system!r} is none of {SYSTEMS}")
        if self.system != OURS and len(self.caps) != 1:
            raise ValueError(f"caps={self.caps}: {self.system} has one cap a run")
        if self.system in TRL and self.ranks != 1:
            raise ValueError(f"ranks={self.ranks}: the TRL runs have one process")
        if max(self.caps) > self.longest:
            raise ValueError(f"caps={self.caps}: longer than longest={self.longest}")
        if self.without and (self.system != OURS or self.without not in WITHOUT | SWITCHED):
            raise ValueError(f"without={self.without!r}: ours alone, and one of {', '.join(WITHOUT | SWITCHED)}")
        if (self.message or self.natural or self.early) and self.system != OURS:
            raise ValueError(f"message={self.message}, natural={self.natural}, early={self.early}: ours alone")
        if self.observed and self.system == NATIVE_POLL:
            raise ValueError(f"observed={self.observed}: an observed run is the user's command, with verl's own poll")
        if self.warm < 1:
            raise ValueError(f"warm={self.warm}: the first step of a run cannot count")

    @property
    def name(self) -> str:
        """Short, for folders and progress lines."""
        parts = [self.system, self.model, "-".join(map(str, self.caps)), f"{self.prompts}x{self.rollouts}"]
        more = {
            f"{self.ranks}ranks": self.ranks > 1,
            f"longest{self.longest}": self.longest != FULL,
            f"without_{self.without.replace(',', '').replace(' ', '_')}": self.without,
            f"message{'-'.join(map(str, self.message))}": self.message,
            **{name: getattr(self, name) for name in ("natural", "early", "observed")},
        }
        return "_".join([*parts, *(part for part, holds in more.items() if holds)])

    @property
    def steps(self) -> int:
        return len(self.caps) * (self.warm + self.measured)

    @property
    def sequences(self) -> int:
        """Rollouts a step."""
        return self.prompts * self.rollouts

    @property
    def recomputes(self) -> bool:
        """Whether a second student pass computes the old log-probs."""
        return self.system in VERLS_OWN or self.without == RECOMPUTED

    def cap_of(self, step: int) -> int:
        """The cap at a step, from 1."""
        return self.caps[(step - 1) // (self.warm + self.measured)]

    def counts(self, step: int) -> bool:
        """Whether a step, from 1, is a measured one."""
        return (step - 1) % (self.warm + self.measured) >= self.warm

    def key(self) -> str:
        """A hash of the settings: equal settings have equal keys."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


# Ours at every cap in one run: its start is paid once, and several groups read its steps.
_LADDER = Case(OURS, (4, 16, 32, 64, 128, FULL))
_TINY_CAPS, _LARGE_CAPS = (4, 16, 64, FULL), (16, FULL)
_LONG = {"measured": 3}
"""Where a step takes many seconds, fewer of them: they differ less, too."""
_HUGE = Case(OURS, (32, 128), model="25M", **_LONG)
_UPDATE = {"model": LARGE, "prompts": 8, "warm": 1, "measured": 2}
_LONG_PROMPTS = {**_UPDATE, "message": (400, 400)}
_MIXED_LENGTHS = {**_UPDATE, "message": (20, 400), "natural": True}
_LARGE_LADDER = Case(OURS, (16, 32, 64, 128, FULL), model=LARGE, **_LONG)

GROUPS: dict[str, tuple[Case, ...]] = {
    # Step seconds and phases against verl's own on-policy distillation at the same cap.
    "native": (
        _LADDER,
        *(Case(system, (cap,)) for cap in _TINY_CAPS for system in VERLS_OWN),
        _LARGE_LADDER,
        *(Case(system, (cap,), model=LARGE, **_LONG) for cap in _LARGE_CAPS for system in VERLS_OWN),
    ),
    # Sequences and tokens a second against TRL's on-policy trainers, one process without engine or frame.
    "trl": (
        _LADDER,
        *(Case(system, (cap,)) for cap in _TINY_CAPS for system in TRL),
        _LARGE_LADDER,
        *(Case(TRL[0], (cap,), model=LARGE, **_LONG) for cap in _LARGE_CAPS),
        _HUGE,
        *(Case(TRL[0], (cap,), model=_HUGE.model, **_LONG) for cap in _HUGE.caps),
    ),
    # The share of seconds that a shorter prefix saves, against the share of FLOP.
    "saving": (_LADDER, _LARGE_LADDER),
    # What each saving is worth that a setting can switch off.
    "savings": (Case(OURS, (64,)), *(Case(OURS, (64,), without=saving) for saving in WITHOUT)),
    # What fewer tokens in an update are worth: prompts and responses of many lengths; long prompts; more of these than
    # a micro-batch of verl's holds.
    "update": (
        *(Case(OURS, (FULL,), without=without, **_MIXED_LENGTHS) for without in ("", CUT)),
        *(Case(OURS, (16,), without=without, **{**_LONG_PROMPTS, "prompts": 24}) for without in ("", CUT)),
        *(Case(OURS, (16, 64), without=without, **_LONG_PROMPTS) for without in ("", SHARED, CUT)),
        *(Case(OURS, (FULL,), without=without, **_MIXED_LENGTHS) for without in (SHARED, CUT_PADDED)),
    ),
    # What fewer calls are worth where rollouts are many and short.
    "transport": tuple(
        Case(OURS, (4, 16), prompts=64, without=without, measured=8)
        for without in ("", "server asked directly", "writes in groups")
    ),
    # Where the teacher lives, at equal cores.
    "placement": tuple(
        Case(OURS, (4, 64, FULL), without=without, measured=4) for without in ("", APART, APART_IN_TURNS)
    ),
    # What it is worth to sample the next step during the update.
    "early": (
        _LADDER,
        Case(OURS, _TINY_CAPS, early=True),
        _LARGE_LADDER,
        Case(OURS, (16, 64, FULL), model=LARGE, early=True, **_LONG),
    ),
    # How step time grows with rollouts, length and model size.
    "rollouts": tuple(Case(OURS, (16,), prompts=prompts) for prompts in (4, 16, 64)),
    "length": (_LARGE_LADDER,),
    "size": (
        *(Case(OURS, (32,), model=model) for model in ("0.1M", "1M")),
        _LARGE_LADDER,
        _HUGE,
    ),
    "ranks": (_LADDER, Case(OURS, (32,), ranks=2), _LARGE_LADDER, Case(OURS, (32,), model=LARGE, ranks=2, **_LONG)),
    # What the configured maximum length costs when all responses are shorter.
    "maximum": (Case(OURS, (16,)), Case(OURS, (16,), longest=4 * FULL)),
    # Start-up by phase and process, memory by process.
    "processes": tuple(Case(system, (16,), measured=3, observed=True) for system in (OURS, NATIVE)),
}


def small(groups: dict[str, tuple[Case, ...]]) -> dict[str, tuple[Case, ...]]:
    """A trial of every group: short caps, small models, few rollouts, two measured steps at each cap."""

    def shrink(case: Case) -> Case:
        caps = (16,) if len(case.caps) == 1 else (8, 16)
        model, prompts = "1M" if case.model == LARGE else case.model, min(case.prompts, 16)
        return replace(case, caps=caps, model=model, prompts=prompts, warm=1, measured=2)

    return {
        name: tuple(dict.fromkeys(shrink(case) for case in cases if case.model != "25M"))
        for name, cases in groups.items()
    }


def unique(groups: dict[str, tuple[Case, ...]]) -> list[Case]:
    """Every case once, in the order of the groups: groups may share a case."""
    return list(dict.fromkeys(case for cases in groups.values() for case in cases))
