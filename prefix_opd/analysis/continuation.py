"""Generation for `prefixes`: the giver starts an answer, the receiver continues it.

Prompts, stop tokens and the grader are those of training. Each model runs in its own vLLM engine: first the giver, then
the receiver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.analysis.prefixes import Prefixes, check_lengths, choose_length, point
from prefix_opd.base.errors import UserError
from prefix_opd.base.loopback import stay_on_loopback
from prefix_opd.checks.models import check_embedding, check_sizes
from prefix_opd.checks.preflight import models_of
from prefix_opd.checks.run_data import data_files, read_rows
from prefix_opd.checks.services import PACKAGE, check_one_turn
from prefix_opd.config.keys import GRADER_KEY, STUDENT_KEY, TEACHER_KEY, VAL_KEY
from prefix_opd.config.lora import MODEL, Lora
from prefix_opd.config.models import Model, engine_arguments
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import URL_KEY, check_one_teacher
from prefix_opd.cost.memory import INFERENCE_KEY, ROLLOUT_KEY
from prefix_opd.grading import compute_score
from prefix_opd.method.seeds import answer_seed


@dataclass(frozen=True)
class Question:
    """A problem as token ids, with the truth to grade answers."""

    prompt: list[int]
    source: str
    truth: str
    extra: dict[str, Any]


def measure(
    kind: str, config: DictConfig, lengths: Sequence[int], margin: int, problems: int, samples: int, seed: int
) -> Prefixes:
    """Run one of the two analyses, a ``kind`` of `prefixes.KINDS`.

    Args:
        config: prepared as for training (`prefix_opd.launch.prepare`).
        lengths: prefix lengths, tokens.
        margin: tokens at the end of the giver's answer that no prefix includes: L <- min(L, L_answer - margin).
        problems: number of problems, from the start of ``data.val_files``.
        samples: answers per problem, each with its own prefix.

    Raises:
        UserError: a length or a margin is too long, or the run has another student, teacher, prompt or grader than this
            analysis. No model is loaded in this case.
    """
    check_models(config)
    _check_answers(config)
    longest = int(config.data.max_response_length)
    lengths = check_lengths(lengths, longest)
    if not 0 <= margin < longest:
        raise UserError(f"--margin={margin}", f"must lie between 0 and {longest - 1}, below the longest answer")
    student, teacher = (_model(config, key) for key in (STUDENT_KEY, TEACHER_KEY))
    giver, receiver = (teacher, student) if kind == "teacher-prefix" else (student, teacher)
    asked = questions(config, problems)
    rows = [(i, sample) for i in range(len(asked)) for sample in range(samples)]
    print(f"{giver.path} answers {len(asked)} problems, {samples} times each")
    given = _generate(config, giver, [(asked[i].prompt, []) for i, _ in rows], rows, f"{seed}/giver")
    prefixes = {length: [one[: max(0, min(length, len(one) - margin))] for one in given] for length in [0, *lengths]}
    jobs = [(length, row, prefix) for length in prefixes for row, prefix in zip(rows, prefixes[length], strict=True)]
    print(f"{receiver.path} continues prefixes of {len(prefixes)} lengths: {len(jobs)} answers")
    # the seed is the same at each length: answers differ by their prefix only
    begun, of_rows = [(asked[i].prompt, prefix) for _, (i, _), prefix in jobs], [row for _, row, _ in jobs]
    answers = _generate(config, receiver, begun, of_rows, f"{seed}/receiver")
    tokenizer = student.tokenizer
    grader = OmegaConf.to_container(config.reward.custom_reward_function, resolve=True).get("reward_kwargs") or {}
    right: dict[int, dict[int, list[bool]]] = {length: defaultdict(list) for length in prefixes}
    for (length, (i, _), prefix), answer in zip(jobs, answers, strict=True):
        right[length][i].append(_is_right(tokenizer, asked[i], [*prefix, *answer], grader))
    alone = [_is_right(tokenizer, asked[i], answer, grader) for (i, _), answer in zip(rows, given, strict=True)]
    accuracy = sum(alone) / len(alone)
    points = [point(length, [*map(len, given)], right[length], right[0]) for length, given in prefixes.items()]
    return Prefixes(
        kind=kind,
        student=student.path,
        teacher=teacher.path,
        problems=len(asked),
        samples=samples,
        margin=margin,
        points=points,
        giver=accuracy,
        chosen=choose_length(points, accuracy) if kind == "student-prefix" else None,
    )


def check_models(config: DictConfig) -> None:
    """Reject a run whose rollouts or models are not those of an analysis, which starts two engines here.

    Raises UserError for several turns, several teachers, a teacher at a URL, an adapter to start from, and weights that
    do not fit their config.json.
    """
    check_one_turn(config)
    check_one_teacher(config)
    if url := OmegaConf.select(config, URL_KEY):
        rule = "is a teacher elsewhere, but this command starts the teacher itself"
        raise UserError(f"{URL_KEY}={url}", rule, "leave it out")
    if (lora := Lora.of(config)) and lora.start is not None:
        fix = f"merge it into the student, name that as {STUDENT_KEY}, and leave it out"
        raise UserError(f"{MODEL}.lora_adapter_path={lora.start}", "is an adapter that this command does not load", fix)
    for model in models_of(config):
        check_embedding(model)
        check_sizes(model)


def _check_answers(config: DictConfig) -> None:
    """Reject a teacher's own prompt, and a grader of the user's. Raises UserError."""
    own, grader = Settings.from_node(config.prefix_opd).teacher_prompt, config.reward.custom_reward_function
    if own.is_own:
        name, value = next((name, value) for name, value in own if value is not None)
        rule = "is the teacher's own prompt, but here both models answer the student's"
        raise UserError(f"prefix_opd.teacher_prompt.{name}={value}", rule, "set it to null")
    if (grader.path, grader.name) != (f"{PACKAGE}{compute_score.__module__}", compute_score.__name__):
        rule = f"names another grader ({grader.name}) than the one that grades here"
        raise UserError(f"{GRADER_KEY}={grader.path}", rule, "leave it out, and its name")


def questions(config: DictConfig, problems: int) -> list[Question]:
    """The first problems of ``data.val_files`` with training's prompts. Raises UserError if a prompt is too long."""
    student = _model(config, STUDENT_KEY)
    template = OmegaConf.select(config, "actor_rollout_ref.model.custom_chat_template")
    variables = dict(config.data.apply_chat_template_kwargs)
    columns = [config.data.prompt_key, config.data.reward_fn_key, "reward_model"]
    files = data_files(config, VAL_KEY)
    rows = chain.from_iterable(read_rows(f"{VAL_KEY}={file}", file, columns, ["extra_info"]) for file in files)
    found = []
    for row in islice(rows, problems):
        text = student.prompt(row[config.data.prompt_key], template, **variables)
        prompt = student.tokenizer.encode(text, add_special_tokens=False)
        if len(prompt) > (room := config.data.max_prompt_length):
            raise UserError(f"data.max_prompt_length={room}", f"a problem has {len(prompt)} tokens")
        truth = row["reward_model"]["ground_truth"]
        found.append(Question(prompt, str(row[config.data.reward_fn_key]), truth, row.get("extra_info") or {}))
    return found


def _generate(
    config: DictConfig, model: Model, begun: Sequence[tuple[list[int], list[int]]], rows, seed: str
) -> list[list[int]]:
    """Continue (prompt, prefix) pairs. An answer with its prefix has at most ``data.max_response_length`` tokens."""
    from prefix_opd.verl_plugin.server.offline_engine import OfflineEngine

    stay_on_loopback(config)
    longest = int(config.data.max_response_length)
    with OfflineEngine(model.path, trust_remote_code=model.trust_remote_code, **engine_of(config, model.key)) as engine:
        return engine.generate(
            [[*prompt, *prefix] for prompt, prefix in begun],
            [longest - len(prefix) for _, prefix in begun],
            [answer_seed(seed, problem, sample) for problem, sample in rows],
            **sampling_of(config, config.actor_rollout_ref.rollout.val_kwargs),
        )


def sampling_of(config: DictConfig, node: DictConfig) -> dict[str, Any]:
    """vLLM's SamplingParams as in the run. ``node``: its rollout's settings, or those of its validation."""
    return dict(
        temperature=float(node.temperature),
        top_p=float(node.top_p),
        top_k=int(node.top_k),
        stop_token_ids=list(config.prefix_opd.stop_token_ids),
        ignore_eos=bool(config.prefix_opd.ignore_own_end_token),
    )


def engine_of(config: DictConfig, key: str) -> dict[str, Any]:
    """vLLM's arguments for this model, as in the run."""
    node = OmegaConf.select(config, ROLLOUT_KEY if key == STUDENT_KEY else INFERENCE_KEY)
    return engine_arguments(node) | {
        # no trainer shares the GPU
        "gpu_memory_utilization": max(0.8, node.gpu_memory_utilization or 0),
        "max_model_len": config.data.max_prompt_length + config.data.max_response_length + 1,
    }


def _is_right(tokenizer, question: Question, answer: Sequence[int], grader: dict) -> bool:
    # verl decodes responses for the reward function in the same way
    text = tokenizer.decode(answer, skip_special_tokens=True)
    return compute_score(question.source, text, question.truth, question.extra, **grader)["score"] > 0.5


def _model(config: DictConfig, key: str) -> Model:
    return Model(key, str(OmegaConf.select(config, key)), bool(config.actor_rollout_ref.model.trust_remote_code))
