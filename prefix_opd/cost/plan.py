"""Cost of a run from its composed config alone, without weights, data or GPU."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.decoder import decoder_config, shape_of
from prefix_opd.config.keys import STUDENT_KEY, TEACHER_KEY
from prefix_opd.config.lora import student_shape
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.cost import arithmetic as cost
from prefix_opd.cost.arithmetic import ACCELERATORS, PHASES, UTILISATION, ResponseLengths
from prefix_opd.cost.memory import INFERENCE_KEY, is_shared, memory, shortages
from prefix_opd.cost.record import Assumptions, Cost, Plan
from prefix_opd.method.flops import ModelShape, StepFlops
from prefix_opd.method.schedule import Full, Schedule, extreme_lengths, prefix_lengths
from prefix_opd.method.weighting import Uniform, Weighting

MOST_STEPS = 4096
"""Of a run, for its largest L."""
MEAN_PROMPT = 200.0
"""Estimate for OpenThoughts3: mathematics questions are shorter, code questions longer."""


def plan(config: DictConfig, assumptions: Assumptions | None = None) -> Plan:
    """The plan of a composed config.

    Raises:
        UserError: a model that is missing, unknown or without a size; a size of the run that is not a whole number.
    """
    assumptions = assumptions or Assumptions()
    updates = _whole(config, "trainer.total_training_steps")  # first: the schedule's `over` follows it
    node: Any = OmegaConf.to_container(config.prefix_opd, resolve=True)
    settings = Settings.from_node(node)
    student, teacher = (published_config(config, key) for key in (STUDENT_KEY, TEACHER_KEY))
    shapes = (student_shape(config, _shape(config, STUDENT_KEY, student)), _shape(config, TEACHER_KEY, teacher))
    rollouts = _whole(config, "data.train_batch_size") * _whole(config, "actor_rollout_ref.rollout.n")
    longest = _whole(config, "data.max_response_length")
    scoring = _whole(config, "distillation.n_gpus_per_node") * _whole(config, "distillation.nnodes")
    gpus = {
        "student": _whole(config, "trainer.n_gpus_per_node") * _whole(config, "trainer.nnodes"),
        "teacher": 0 if settings.teacher.urls else scoring,
    }
    throughput = _throughput(config, assumptions)
    prompt = assumptions.mean_prompt or min(MEAN_PROMPT, _whole(config, "data.max_prompt_length") / 2)
    scored = _teachers_prompt(config, settings, assumptions, prompt)
    recomputed = settings.advantage.recomputes

    def lengths_of(schedule: Schedule) -> list[list[int]]:
        rows = rollouts if schedule.each_rollout else config.data.train_batch_size
        return [prefix_lengths(schedule, step, rows, longest) for step in range(1, updates + 1)]

    def total(rows: list[list[int]], weighting: Weighting) -> Cost:
        responses = [_responses(assumptions.responses, lengths) for lengths in rows]
        return _cost(
            shapes, responses, rollouts, (prompt, scored), recomputed, weighting, throughput, gpus, is_shared(config)
        )

    schedule, rows = settings.schedule, lengths_of(settings.schedule)
    courses = dict(zip(("shortest", "longest"), _courses(schedule, updates, longest), strict=True))

    def longest_step(rows: list[list[int]]) -> dict[str, Any]:
        index = max(range(updates), key=lambda index: sum(rows[index]))
        hours = total([rows[index]], settings.weighting).hours
        seconds = {phase: 3600 * value for phase, value in hours.items()}
        return {"step": index + 1, "prefix_length": max(rows[index]), "seconds": seconds}

    # the longest possible response: memory is planned for the worst case
    most = max(longest_prefix(schedule, updates, longest), *map(max, rows))
    response = assumptions.responses.capped(most)[-1][0]
    parameters = (_parameters(shapes[0], student), _parameters(shapes[1], teacher))
    device = assumptions.memory_gib or ACCELERATORS[throughput["accelerator"]].memory_gib
    longests = (prompt + response, scored + response)
    found = memory(config, shapes, parameters, rollouts, gpus, longests, device)
    return Plan(
        run={
            "experiment_name": config.trainer.experiment_name,
            "student": OmegaConf.select(config, STUDENT_KEY),
            "teacher": OmegaConf.select(config, TEACHER_KEY),
            "updates": updates,
            "rollouts_per_update": rollouts,
            "adapter_parameters": shapes[0].adapter,
            "first_cap": max(rows[0]),
            "last_cap": max(rows[-1]),
            "gpus": gpus,
            "placement": settings.teacher.placement,
            "phases": settings.teacher.phases,
            "cards": gpus["student"] + (0 if is_shared(config) else gpus["teacher"]),
            "parameters": {
                name: {"stored": _parameters(shape, found), "of_a_token": _passed(shape, found)}
                for name, shape, found in zip(gpus, shapes, (student, teacher), strict=True)
            },
        },
        cost=total(rows, settings.weighting),
        full_opd=total(lengths_of(Full()), Uniform()),
        courses={name: total(found, settings.weighting) for name, found in courses.items()} if schedule.adapts else {},
        longest_step=longest_step(courses["longest"] if schedule.adapts else rows),
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
        notes=_notes(config, settings, found, most),
    )


def _courses(schedule: Schedule, updates: int, response: int) -> tuple[list[list[int]], list[list[int]]]:
    """L of each update if the schedule keeps it as short and as long as it can."""
    ends = [extreme_lengths(schedule, step, response) for step in range(1, updates + 1)]
    return [[low] for low, _ in ends], [[high] for _, high in ends]


def longest_prefix(schedule: Schedule, steps: int, response: int) -> int:
    """The largest L that a run can have, tokens. Of a run of very many steps some are looked at."""
    looked_at = {1, steps, *range(1, steps + 1, -(-steps // MOST_STEPS))}
    return max(extreme_lengths(schedule, step, response)[1] for step in looked_at)


def first_update(config: DictConfig) -> float:
    """Exact FLOP of the first update, every rollout at its L."""
    one = config.copy()
    OmegaConf.update(one, "trainer.total_training_steps", 1)
    return plan(one).cost.flop["exact"].total


def longest_score(config: DictConfig, settings: Settings, shapes: tuple[ModelShape, ModelShape]) -> float:
    """Seconds in which an engine of the teacher scores one rollout of the longest step, and nothing else.

    By the assumptions that a plan makes where none are given: the rollout reaches its cap, on an A100 or a CPU.
    """
    schedule, response = settings.schedule, config.data.max_response_length
    steps = config.trainer.total_training_steps
    cap = longest_prefix(schedule, steps, response)
    engine = {"student": 1, "teacher": OmegaConf.select(config, INFERENCE_KEY).tensor_model_parallel_size}
    prompt = min(MEAN_PROMPT, config.data.max_prompt_length / 2)
    scored = _teachers_prompt(config, settings, Assumptions(), prompt)
    flops = cost.step_flops(*shapes, prompt, [(float(cap), 1.0)], 1, False, scored)["exact"]
    return 3600 * cost.hours(flops, _throughput(config, Assumptions())["flops_per_second"], engine)["teacher_scoring"]


def _teachers_prompt(config: DictConfig, settings: Settings, assumptions: Assumptions, prompt: float) -> float:
    """Mean length of the prompts that the teacher scores, tokens."""
    if not settings.teacher_prompt.is_own:
        return prompt
    longest = settings.teacher_prompt.max_length or config.data.max_prompt_length
    more = max(0.0, (longest - config.data.max_prompt_length) / 2)
    return assumptions.mean_teacher_prompt or prompt + more


# ---- models ----


def published_config(config: DictConfig, key: str) -> dict[str, Any]:
    """``config.json`` of a model (its text part): from its folder, from this package, or from the hub."""
    path = OmegaConf.select(config, key)
    if not path:
        raise UserError(key, "is not set", f"add {key}=FOLDER or a hub id, or an experiment")
    shipped = resources.files("prefix_opd.config") / "model_shapes" / f"{str(path).rpartition('/')[2]}.json"
    if not Path(str(path)).expanduser().is_dir() and str(path).startswith("Qwen/") and shipped.is_file():
        return decoder_config(f"{key}={path}", json.loads(shipped.read_text()))
    return Model(key, str(path)).decoder


def _shape(config: DictConfig, key: str, published: dict[str, Any]) -> ModelShape:
    return shape_of(f"{key}={OmegaConf.select(config, key)}", published)


def _passed(shape: ModelShape, published: dict[str, Any]) -> int:
    """Parameters that one token passes: all but the experts that are not its own."""
    return _parameters(shape, published) - (shape.all_parameters - shape.matmul_parameters)


def _parameters(shape: ModelShape, published: dict[str, Any]) -> int:
    return cost.stored_parameters(shape, tied=bool(published.get("tie_word_embeddings", False)))


# ---- the parts ----


def _responses(lengths: ResponseLengths, rows: list[int]) -> list[tuple[float, float]]:
    """(tokens, share) of the rollouts of an update whose prompts have these prefix lengths."""
    found: dict[float, float] = {}
    for length, prompts in Counter(rows).items():
        for tokens, share in lengths.capped(length):
            found[tokens] = found.get(tokens, 0.0) + share * (prompts / len(rows))
    return sorted(found.items())


def _cost(shapes, updates, rollouts, prompts, recomputed, weighting, throughput, gpus, one_by_one) -> Cost:
    (student, teacher), (prompt, scored) = shapes, prompts
    steps: dict[str, list[StepFlops]] = {"exact": [], "paper": []}
    tokens = dict.fromkeys(("prompts", "generated", "scored", "in_loss"), 0.0)
    for responses in updates:
        for kind, flops in cost.step_flops(student, teacher, prompt, responses, rollouts, recomputed, scored).items():
            steps[kind].append(flops)
        generated = rollouts * sum(length * share for length, share in responses)
        tokens["prompts"] += rollouts * prompt
        tokens["generated"] += generated
        tokens["scored"] += rollouts * scored + generated
        tokens["in_loss"] += rollouts * sum(weighting.counted(length) * share for length, share in responses)
    flop = {kind: cost.add_up([(1.0, flops) for flops in found]) for kind, found in steps.items()}
    return Cost(flop, tokens, cost.hours(flop["exact"], throughput["flops_per_second"], gpus, one_by_one))


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


def _notes(config: DictConfig, settings: Settings, memory: dict[str, Any], longest: int) -> list[str]:
    notes = [f"{short.what}: {short.rule}: {short.fix}" for short in shortages(memory)]
    engine = memory["student"]["engine"]
    if engine["kv_cache_wanted"] > engine["kv_cache_room"]:
        notes.append(
            f"at the longest L the KV cache of an engine holds about {engine['sequences_at_once']} rollouts; "
            "vLLM queues the others, so sampling is slower than its FLOP suggest"
        )
    if settings.teacher.urls:
        notes.append("the teacher scores on other machines: their hours and memory are not counted")
    if memory["host"]["trainer_offloaded"]:
        notes.append("the hours leave out the time that moves the trainer's states to host memory and back")
    if settings.loss.needs_topk:
        notes.append(f"{settings.loss.label}: FLOP are those of the reverse KL; the top k is not counted")
    if settings.schedule.adapts:
        notes.append(
            f"the schedule {config.prefix_opd.schedule.name} adapts L to what the run observes: the tables show the "
            f"cost of its first state; the longest step and memory that of L = {longest}"
        )
    if config.platform == "cpu":
        notes.append("the time of a tiny run on a CPU is overhead, not FLOP: the hours are too low")
    return notes


def _whole(config: DictConfig, key: str) -> int:
    value = OmegaConf.select(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key}={value}", "must be a whole number of at least 1")
    return value
