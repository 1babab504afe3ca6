"""Cost of a run from its composed config: needs no weights, data or GPU."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import STUDENT_KEY, positive
from prefix_opd.config.lora import student_shape
from prefix_opd.config.models import PLAIN_DECODERS
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import teachers
from prefix_opd.cost import arithmetic as cost
from prefix_opd.cost.arithmetic import ACCELERATORS, PHASES, UTILISATION, ResponseLengths
from prefix_opd.cost.memory import is_checkpointed, is_shared, kept_by_layers, memory, shortages
from prefix_opd.cost.models import Scorer, Sized, label, sized
from prefix_opd.cost.record import Assumptions, Cost, Plan
from prefix_opd.method.flops import ModelShape, StepFlops
from prefix_opd.method.schedule import Full, Schedule, extreme_lengths, prefix_lengths
from prefix_opd.method.weighting import Uniform, Weighting

MOST_STEPS = 4096
"""Most steps that the search for the largest L looks at."""
MEAN_PROMPT = 200.0
"""Estimate for OpenThoughts3: mathematics questions are shorter, code questions longer."""


def plan(config: DictConfig, assumptions: Assumptions | None = None) -> Plan:
    """Raises UserError: a model that is missing, unknown or without a size; a size that is no whole number."""
    assumptions = assumptions or Assumptions()
    updates = positive(config, "trainer.total_training_steps")  # first: the schedule's `over` follows it
    node: Any = OmegaConf.to_container(config.prefix_opd, resolve=True)
    settings = Settings.from_node(node)
    named = teachers(config)
    student, *theirs = (sized(config, key) for key in (STUDENT_KEY, *(one.key for one in named)))
    student = replace(student, shape=student_shape(config, student.shape))
    shares = assumptions.source_shares or dict.fromkeys((one.source for one in named), 1 / len(named))
    scorers = [Scorer(one, model, shares[one.source]) for one, model in zip(named, theirs, strict=True)]
    rollouts = positive(config, "data.train_batch_size") * positive(config, "actor_rollout_ref.rollout.n")
    longest = positive(config, "data.max_response_length")
    scoring = positive(config, "distillation.n_gpus_per_node") * positive(config, "distillation.nnodes")
    gpus = {
        "student": positive(config, "trainer.n_gpus_per_node") * positive(config, "trainer.nnodes"),
        "teacher": 0 if settings.teacher.urls else scoring,
    }
    throughput = _throughput(config, assumptions)
    prompt = assumptions.mean_prompt or min(MEAN_PROMPT, positive(config, "data.max_prompt_length") / 2)
    scored = _teachers_prompt(config, settings, assumptions, prompt)
    longest_prompt = positive(config, "data.max_prompt_length")
    assumptions.check_prompts(longest_prompt, settings.teacher_prompt.max_length or longest_prompt)
    contexts = (prompt + settings.rollout.tool_tokens, scored + settings.rollout.tool_tokens)
    run = (student.shape, scorers, rollouts, contexts, settings.advantage.recomputes)
    cost_of = functools.partial(_cost, *run, throughput["flops_per_second"], gpus, is_shared(config))

    def lengths_of(schedule: Schedule) -> list[list[int]]:
        rows = rollouts if schedule.each_rollout else config.data.train_batch_size
        return [prefix_lengths(schedule, step, rows, longest) for step in range(1, updates + 1)]

    def total(rows: list[list[int]], weighting: Weighting = settings.weighting, budget=settings.flop_budget) -> Cost:
        return cost_of([_responses(assumptions.responses, lengths) for lengths in rows], weighting, budget)

    schedule, rows = settings.schedule, lengths_of(settings.schedule)
    # the longest possible response: memory is planned for the worst case, in which a budget ends nothing
    most = max(longest_prefix(schedule, updates, longest), *map(max, rows))
    ours = total(rows)
    rows, longest_rows = rows[: ours.updates], rows[: ours.updates]
    courses: dict[str, Cost] = {}
    if schedule.adapts:
        low, high = zip(*(extreme_lengths(schedule, step, longest) for step in range(1, updates + 1)), strict=True)
        courses = {name: total([[n] for n in course]) for name, course in (("shortest", low), ("longest", high))}
        longest_rows = [[length] for length in high[: courses["longest"].updates]]
    index = max(range(len(longest_rows)), key=lambda index: sum(longest_rows[index]))
    seconds = {phase: 3600 * value for phase, value in total([longest_rows[index]]).hours.items()}

    response = assumptions.responses.capped(most)[-1][0]
    device = assumptions.memory_gib or ACCELERATORS[throughput["accelerator"]].memory_gib
    longests = (contexts[0] + response, contexts[1] + response)
    found = _memory(config, settings, student, scorers, rollouts, gpus, longests, device)
    return Plan(
        run={
            "experiment_name": config.trainer.experiment_name,
            "student": OmegaConf.select(config, STUDENT_KEY),
            "teacher": ", ".join(dict.fromkeys(one.path for one in named)),
            "teachers": {one.source: {"model": one.path, "gpus": one.gpus} for one in named},
            "updates": ours.updates,
            "rollouts_per_update": rollouts,
            "adapter_parameters": student.shape.adapter,
            "first_cap": max(rows[0]),
            "last_cap": max(rows[-1]),
            "least_cap": min(map(min, rows)),
            "most_cap": max(longest_prefix(schedule, len(longest_rows), longest), *map(max, rows)),
            "gpus": gpus,
            "placement": "elsewhere" if settings.teacher.urls else settings.teacher.placement,
            "phases": settings.teacher.phases,
            "cards": gpus["student"] + (0 if is_shared(config) else gpus["teacher"]),
            "parameters": {
                name: {"stored": model.parameters, "of_a_token": model.of_a_token}
                for name, model in {"student": student, **{label(one.teacher): one.model for one in scorers}}.items()
            },
        },
        cost=ours,
        full_opd=total(lengths_of(Full())[: ours.updates], Uniform(), None),
        courses=courses,
        longest_step={"step": index + 1, "prefix_length": max(longest_rows[index]), "seconds": seconds},
        memory_gib=found,
        assumptions={
            "accelerator": throughput["accelerator"],
            "tflops_per_gpu": {phase: throughput["flops_per_second"][phase] / 1e12 for phase in PHASES},
            "mean_prompt": prompt,
            **({"mean_teacher_prompt": scored} if settings.teacher_prompt.is_own else {}),
            "response_lengths": "every rollout reaches its cap"
            if not assumptions.responses.shares
            else f"mean {sum(n * share for n, share in assumptions.responses.shares):.0f} tokens without a cap",
        },
        notes=_notes(config, settings, found, student, scorers, assumptions, most, ours.updates),
    )


def longest_prefix(schedule: Schedule, steps: int, response: int) -> int:
    """The largest L that a run can have, tokens, from at most about `MOST_STEPS` of its steps."""
    looked_at = {1, steps, *range(1, steps + 1, -(-steps // MOST_STEPS))}
    return max(extreme_lengths(schedule, step, response)[1] for step in looked_at)


def least_update(config: DictConfig) -> float:
    """Exact FLOP of an update whose prompts and rollouts have one token each: no update takes less."""
    one = config.copy()
    OmegaConf.update(one, "trainer.total_training_steps", 1)
    OmegaConf.update(one, "prefix_opd.rollout.tool_tokens", 0)
    shortest = Assumptions(mean_prompt=1.0, mean_teacher_prompt=1.0, responses=ResponseLengths(((1.0, 1.0),)))
    return plan(one, shortest).cost.flop["exact"].total


def longest_score(config: DictConfig, settings: Settings, shapes: tuple[ModelShape, ModelShape], gpus: int) -> float:
    """Seconds in which an engine of a teacher on ``gpus`` scores one rollout of the longest step, and nothing else.

    By a plan's own assumptions: the rollout reaches L, on an A100 or a CPU.
    """
    longest = longest_prefix(settings.schedule, config.trainer.total_training_steps, config.data.max_response_length)
    prompt = min(MEAN_PROMPT, config.data.max_prompt_length / 2)
    scored = _teachers_prompt(config, settings, Assumptions(), prompt) + settings.rollout.tool_tokens
    flops = cost.step_flops(*shapes, prompt, [(float(longest), 1.0)], 1, False, scored)["exact"]
    speed, engine = _throughput(config, Assumptions())["flops_per_second"], {"student": 1, "teacher": gpus}
    return 3600 * cost.hours(flops, speed, engine)["teacher_scoring"]


def _teachers_prompt(config: DictConfig, settings: Settings, assumptions: Assumptions, prompt: float) -> float:
    """Mean length of the prompts that the teacher scores, tokens."""
    if not settings.teacher_prompt.is_own:
        return prompt
    longest = settings.teacher_prompt.max_length or config.data.max_prompt_length
    more = max(0.0, (longest - config.data.max_prompt_length) / 2)
    return assumptions.mean_teacher_prompt or prompt + more


def _responses(lengths: ResponseLengths, rows: list[int]) -> list[tuple[float, float]]:
    """(tokens, share) of the rollouts of an update whose prompts have these prefix lengths."""
    found: dict[float, float] = {}
    for length, prompts in Counter(rows).items():
        for tokens, share in lengths.capped(length):
            found[tokens] = found.get(tokens, 0.0) + share * (prompts / len(rows))
    return sorted(found.items())


def _cost(student, scorers, rollouts, prompts, recomputed, speed, gpus, one_by_one, updates, weighting, budget) -> Cost:
    """The updates up to the one that brings the exact FLOP to the budget; None: all."""
    (prompt, teachers_prompt), made = prompts, 0
    flop = {"exact": StepFlops(), "paper": StepFlops()}
    tokens = dict.fromkeys(("prompts", "generated", "scored", "in_loss"), 0.0)
    scored = dict.fromkeys((one.teacher.source for one in scorers), 0.0)

    @functools.cache  # most of many updates have equal lengths
    def flops_of(number: int, responses: tuple[tuple[float, float], ...]):
        share = (responses, rollouts * scorers[number].share, recomputed, teachers_prompt)
        return cost.step_flops(student, scorers[number].model.shape, prompt, *share)

    for responses in updates:
        if budget is not None and flop["exact"].total >= budget:
            break
        made += 1
        for number, one in enumerate(scorers):
            flops = flops_of(number, tuple(responses))
            flop = {kind: flop[kind] + found for kind, found in flops.items()}
            scored[one.teacher.source] += flops["exact"].teacher_scoring
        generated = rollouts * sum(length * share for length, share in responses)
        tokens["prompts"] += rollouts * prompt
        tokens["generated"] += generated
        tokens["scored"] += rollouts * teachers_prompt + generated
        tokens["in_loss"] += rollouts * sum(weighting.counted(length) * share for length, share in responses)
    if len(scorers) > 1:  # they score side by side, each on its own GPUs: the time is that of the busiest
        busiest = max(scored[one.teacher.source] / one.teacher.gpus for one in scorers)
        gpus = {**gpus, "teacher": sum(scored.values()) / busiest}
    return Cost(flop, tokens, cost.hours(flop["exact"], speed, gpus, one_by_one), scored, made)


def _throughput(config: DictConfig, assumptions: Assumptions) -> dict[str, Any]:
    set_one = config.prefix_opd.accelerator
    if set_one is not None and set_one not in ACCELERATORS:
        raise UserError(f"prefix_opd.accelerator={set_one}", f"is not one of {', '.join(ACCELERATORS)}")
    name = assumptions.accelerator or set_one or ("cpu" if config.platform == "cpu" else "a100")
    shares = {**UTILISATION, **assumptions.utilisation}
    per_second = {
        phase: assumptions.tflops[phase] * 1e12
        if phase in assumptions.tflops
        else ACCELERATORS[name].peak * shares[phase]
        for phase in PHASES
    }
    return {"accelerator": name, "flops_per_second": per_second}


def _memory(config, settings, student: Sized, scorers: list[Scorer], rollouts, gpus, longests, device):
    """`memory` for each teacher; of several, ``teacher`` is the one with the highest peak."""
    logit_bytes = cost.LOGIT_BYTES_FUSED if _is_fused(config, settings, student) else cost.LOGIT_BYTES_UPDATE
    found = {
        label(one.teacher): memory(
            config,
            (student.shape, one.model.shape),
            (student.parameters, one.model.parameters),
            rollouts,
            {**gpus, "teacher": one.teacher.gpus},
            longests,
            device,
            logit_bytes,
            one.teacher.inference_key,
        )
        for one in scorers
    }
    if len(scorers) == 1:
        return found["teacher"]
    # the engines of the student have one size: what they have room for beside the largest teacher
    most = min(found.values(), key=lambda one: (one["student"]["engine"]["share"], -one["teacher"]["peak_scoring"]))
    each = {name: one["teacher"] for name, one in found.items()}
    asleep = sum(each[label(one.teacher)]["engine"]["weights"] * one.teacher.gpus for one in scorers)
    host = {"teacher_asleep": asleep / config.trainer.nnodes if is_shared(config) else 0.0}
    return {**most, **each, "host": {**most["host"], **host}}


def _is_fused(config: DictConfig, settings: Settings, student: Sized) -> bool:
    """Whether the update keeps no logits in fp32 (`prefix_opd.verl_plugin.engine.fused_head`)."""
    update, actor = settings.update, config.actor_rollout_ref.actor
    reads_logits = settings.loss.needs_topk and settings.loss.is_verls or actor.ulysses_sequence_parallel_size > 1
    asked = update.fused_head and update.response_logits_only and not reads_logits
    return asked and student.family in PLAIN_DECODERS


def _notes(
    config, settings: Settings, memory: dict[str, Any], student: Sized, scorers, assumptions: Assumptions, longest, made
) -> list[str]:
    notes = [f"{short.what}: {short.rule}: {short.fix}" for short in shortages(memory)]
    engine = memory["student"]["engine"]
    if engine["kv_cache_wanted"] > engine["kv_cache_room"]:
        notes.append(
            f"at the longest L the KV cache of an engine holds about {engine['sequences_at_once']} rollouts; "
            "vLLM queues the others, so sampling is slower than its FLOP suggest"
        )
    if not is_checkpointed(config) and kept_by_layers(config, student.shape) is None:
        notes.append(
            "the update needs more memory than the tables say: what layers of this kind keep without gradient "
            "checkpointing is not counted"
        )
    if made < (asked := config.trainer.total_training_steps):
        notes.append(
            f"prefix_opd.flop_budget={settings.flop_budget:g} ends the run after {made} of {asked} updates, or later "
            "if rollouts are shorter; memory is planned for all of them"
        )
    if settings.rollout.tool_tokens:
        notes.append(
            f"tool outputs count as {settings.rollout.tool_tokens} more tokens of each prompt "
            "(prefix_opd.rollout.tool_tokens, all of it); the time of the tools is not counted"
        )
    if settings.teacher.urls:
        notes.append("the teacher scores on other machines: their hours and memory are not counted")
    if memory["host"]["trainer_offloaded"]:
        notes.append("the hours leave out the time that moves the trainer's states to host memory and back")
    if settings.loss.needs_topk:
        notes.append(f"{settings.loss.label}: FLOP are those of the reverse KL; the top k is not counted")
    if settings.schedule.adapts:
        notes.append(
            f"the schedule {config.prefix_opd.schedule.name} adapts L to metrics of the run: the tables show the cost "
            f"at its first L, the longest step that of the fastest growth, memory that of L = {longest}"
        )
    if len(scorers) > 1:
        told = ", ".join(f"{one.teacher.source} {one.share:.0%}" for one in scorers)
        notes.append(f"shares of the rollouts: {told}" + ("" if assumptions.source_shares else ", assumed"))
    if config.platform == "cpu":
        notes.append("the time of a tiny run on a CPU is overhead, not FLOP: the hours are too low")
    return notes
