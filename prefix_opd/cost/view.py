"""The plan as tables on a terminal."""

from __future__ import annotations

from typing import Any

from prefix_opd.base.terminal import table
from prefix_opd.cost.arithmetic import PHASES
from prefix_opd.cost.memory import OF_SEVERAL
from prefix_opd.cost.paper_check import PaperCheck
from prefix_opd.cost.record import Plan


def render(plan: Plan):
    """Rich tables: the run, FLOP and hours by phase beside full OPD, memory, assumptions and notes."""
    from rich.console import Group
    from rich.text import Text

    run = plan.run
    caps = run["first_cap"], run["last_cap"]
    drawn = run["least_cap"] < min(caps)  # other rollouts of the same updates have shorter ones
    lengths = " to ".join(map(str, (run["least_cap"], run["most_cap"]) if drawn else dict.fromkeys(caps)))
    gpus = {
        "own": f"{run['gpus']['student']} + {run['gpus']['teacher']} GPUs",
        "shared": f"{run['cards']} GPUs, shared",
        "elsewhere": f"{run['cards']} GPUs, the teacher elsewhere",
    }[run["placement"]]
    adapter = f" by an adapter of {run['adapter_parameters']:.3g} parameters" if run["adapter_parameters"] else ""
    head = (
        f"{run['experiment_name']}: {run['student']}{adapter} learns from {run['teacher']}; {run['updates']} updates "
        f"of {run['rollouts_per_update']} rollouts, L {lengths}; {gpus}"
    )
    said = plan.assumptions
    tflops = ", ".join(f"{_words(phase)} {value:.3g}" for phase, value in said["tflops_per_gpu"].items())
    more = f", the teacher's of {said['mean_teacher_prompt']:.0f}" if "mean_teacher_prompt" in said else ""
    longest = plan.longest_step
    seconds = ", ".join(f"{_words(phase)} {longest['seconds'][phase]:.3g}" for phase in PHASES)
    sizes = ", ".join(f"{name} {_parameters(found)}" for name, found in run["parameters"].items())
    host = plan.memory_gib["host"]
    flops = " to ".join(f"{one.flop['exact'].total:.2e}" for one in plan.courses.values())
    hours = " to ".join(hours_text(one.hours["total"]) for one in plan.courses.values())
    adapts = [f"L adapts: {flops} FLOP with prompts and {hours} hours, from the slowest to the fastest growth."]
    scored = ", ".join(f"{source} {flop:.2e}" for source, flop in plan.cost.scored.items() if source)
    foot = [
        *([f"FLOP of each teacher: {scored}."] if scored else []),
        f"parameters: {sizes}.",
        f"longest step: {longest['step']} (L {longest['prefix_length']}), {longest['seconds']['total']:.3g} s; "
        f"by phase: {seconds}.",
        f"assumed: {said['accelerator']}, TFLOP/s a GPU: {tflops}; prompts of {said['mean_prompt']:.0f} tokens{more}; "
        f"{said['response_lengths']}. Evaluation and start-up are not included.",
        f"host memory of a node: {host['trainer_offloaded']:.1f} GiB of offloaded states, "
        f"{host['teacher_asleep'] + host['student_asleep']:.1f} of sleeping engines (pinned: up to twice that).",
        *(adapts if plan.courses else []),
        *(f"note: {note}" for note in plan.notes),
    ]
    return Group(Text(head), _cost_table(plan), _memory_table(plan.memory_gib), Text("\n".join(foot)))


def _parameters(found: dict[str, int]) -> str:
    stored, passed = found["stored"], found["of_a_token"]
    return f"{stored:.3g}" if stored == passed else f"{stored:.4g}, {passed:.3g} of them active per token"


def _cost_table(plan: Plan):
    counts = plan.cost.tokens
    order = {
        "own": "Sampling and teacher scoring overlap; only the longer one counts.",
        "shared": "Sampling, teacher scoring and the update follow each other.",
        "elsewhere": "The hours of teacher scoring are not counted.",
    }[plan.run["placement"]]
    made = table(
        "cost",
        ("", "FLOP, paper", "FLOP, with prompts", "hours", "full OPD: FLOP, paper", "with prompts", "hours"),
        f"tokens: {counts['generated']:.3g} generated, {counts['scored']:.3g} scored, {counts['in_loss']:.3g} in the "
        f"loss. {order}",
    )
    for phase in (*PHASES, "total"):
        cells = []
        for cost in (plan.cost, plan.full_opd):
            flops = [cost.flop[kind].as_dict()[phase] for kind in ("paper", "exact")]
            cells += [*(f"{value:.2e}" for value in flops), hours_text(cost.hours[phase])]
        made.add_row(_words(phase), *cells, end_section=phase == PHASES[-1])
    ratio = plan.as_dict()["full_opd"]["times_this_run"]
    made.add_row("full OPD to this run", "", "", "", *(f"{ratio[kind]:.3g}x" for kind in ("paper", "exact", "hours")))
    return made


def _memory_table(memory: dict[str, Any]):
    student = memory["student"]
    made = table(
        f"memory of a GPU, GiB of {student['device']:.0f}",
        ("", "peak", "weights", "KV cache", "logits", "the rest"),
        "Weights of the update include gradients and AdamW, with LoRA only those of the adapter. An engine reserves "
        "its whole share.",
    )

    def row(name: str, peak: float, weights: float, cache: float, logits: float) -> None:
        rest = peak - weights - cache - logits
        made.add_row(name, *(f"{value:.1f}" for value in (peak, weights, cache, logits, rest)))

    engine = student["engine"]
    row("student samples", student["peak_sampling"], engine["weights"], engine["kv_cache"], 0.0)
    row("student is updated", student["peak_update"], student["update"]["states"], 0.0, student["logits"])
    several = [name for name in memory if name.startswith(OF_SEVERAL)]
    for name in several or [name for name in memory if name == "teacher"]:
        found, scorer = memory[name], memory[name]["engine"]
        row(f"{name} scores", found["peak_scoring"], scorer["weights"], scorer["kv_cache"], found["logits"])
    return made


def render_paper(checks: list[PaperCheck]):
    made = table(
        "the paper's training FLOP beside its formula, every rollout at its cap",
        ("run", "updates", "paper", "formula", "ratio"),
        "(60): the paper states 60 updates for the set-up, but not the checkpoint of this figure.",
        no_wrap=True,
    )
    made.add_column("within 10%?")
    for check in checks:
        row = check.row
        made.add_row(
            f"{row.size} {row.run}",
            f"{row.updates}" if row.stated else f"({row.updates})",
            f"{row.flop:.1e}",
            f"{check.ours:.1e}",
            f"{check.ours / row.flop:.2f}",
            ("yes" if check.fits else "no") + (f": {check.why}" if check.why else ""),
        )
    return made


def _words(phase: str) -> str:
    return phase.replace("_", " ")


def hours_text(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"
