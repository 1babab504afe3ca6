"""SeqKD and prefix SeqKD: the teacher answers once, verl's SFT trainer trains, `prefix-opd evaluate` measures.

FLOP of an example with P prompt and R trained response tokens, S the student and T the teacher:

    exact = F_forward(T, P + R) + F_train(S, P + R)
    paper = F_train(S, R)

The paper's SeqKD trains on existing answers, and its FLOP match the student's training alone.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from prefix_opd import launch
from prefix_opd.base.files import write_json
from prefix_opd.commands.evaluate import CHUNK, plan_of
from prefix_opd.evaluation.benchmarks import MINIATURES, Sampling, find
from prefix_opd.evaluation.config import evaluation_config
from prefix_opd.evaluation.record import PLAN_FILE, RESPONSES_FILE, check_same
from prefix_opd.evaluation.table import RESULTS_FILE, write_results
from prefix_opd.evaluation.target import check_target, open_target
from prefix_opd.method.flops import ModelShape
from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.paths import tiny_path
from prefix_opd.miniature.task import END_OF_TEXT, END_OF_TURN
from prefix_opd.run.folder import CONFIG_FILE
from reproduction.arms import PROMPTS, ROLLOUTS, SEQUENCES, Run

SPENT_FILE = "spent.json"
SFT_FILE = "sft.parquet"
EVALUATION = "evaluation"
ANSWERS = "teacher_answers"
ANSWER_SEED = 0


@dataclass(frozen=True)
class Spent:
    """The cost of a run's training. Example: ``Spent(1.2e12, 8e11, 31.5)``."""

    flops_exact: float
    flops_paper: float
    seconds: float
    """Seconds of the updates, without the teacher's answers, which all SeqKD runs share."""


def seqkd_flops(
    student: ModelShape, teacher: ModelShape, prompt_lengths: list[int], response_lengths: list[int]
) -> tuple[float, float]:
    """(exact, paper) FLOP of training once on each example, as in the module's docstring."""
    lengths = [prompt + response for prompt, response in zip(prompt_lengths, response_lengths, strict=True)]
    exact = teacher.forward_flops(lengths) + student.train_flops(lengths)
    return exact, student.train_flops(response_lengths)


def answers_folder(run: Run) -> Path:
    """Folder of the teacher's answers to as many questions as a run of this length uses."""
    return run.out / f"{ANSWERS}_{run.updates}"


def plan_answers(run: Run) -> None:
    """Plan ``ROLLOUTS`` answers of the teacher per question."""
    _plan(tiny_path("teacher"), tiny_path("train"), answers_folder(run), ROLLOUTS, PROMPTS * run.updates, ANSWER_SEED)


def answer(run: Run) -> None:
    """Let the teacher answer. Existing answers are kept."""
    _measure(answers_folder(run))


def train(run: Run) -> None:
    """Write the run's examples and train on them. An interrupted training restarts, because it takes a minute."""
    from reproduction.sft import run as run_sft

    run.folder.mkdir(parents=True, exist_ok=True)
    exact, paper = _write_examples(run)
    seconds = run_sft(
        [
            f"data.train_files='{(run.folder / SFT_FILE).absolute()}'",
            f"data.answer_tokens={run.arm.answer_tokens or 'null'}",
            f"data.train_batch_size={SEQUENCES}",
            f"trainer.total_training_steps={run.updates}",
            f"trainer.default_local_dir='{run.folder.absolute()}'",
            f"trainer.experiment_name={run.name}",
            f"trainer.seed={run.seed}",
        ]
    )
    write_json(run.folder / SPENT_FILE, asdict(Spent(exact, paper, seconds)))


def plan_evaluation(run: Run) -> None:
    """Plan to evaluate the trained model like on-policy validation: one answer per problem at temperature 1."""
    model = run.folder / f"global_step_{run.updates}" / "huggingface"
    _plan(str(model), tiny_path("test"), run.folder / EVALUATION, 1, run.problems, run.seed)


def evaluate(run: Run) -> None:
    _measure(run.folder / EVALUATION)


def trained(run: Run) -> bool:
    return (run.folder / SPENT_FILE).is_file()


def measured(run: Run) -> tuple[float, int] | None:
    """(accuracy, problems) of a finished evaluation, else None."""
    path = run.folder / EVALUATION / RESULTS_FILE
    if not path.is_file():
        return None
    (found,) = json.loads(path.read_text())["benchmarks"].values()
    return found["mean"], found["problems"]


def read_spent(run: Run) -> Spent:
    return Spent(**json.loads((run.folder / SPENT_FILE).read_text()))


def _write_examples(run: Run) -> tuple[float, float]:
    """Write the examples. Returns the (exact, paper) FLOP of the run's updates on them."""
    from transformers import AutoTokenizer

    from prefix_opd.miniature.tokenizer import prompt_text

    models = shipped_models()
    tokenizer = AutoTokenizer.from_pretrained(models["student"])
    questions = [row["content"] for (row,) in pq.read_table(tiny_path("train"))["prompt"].to_pylist()]
    rows = _whole_answers(answers_folder(run))
    random.Random(run.seed).shuffle(rows)  # verl's sampler uses the same order for all seeds
    prompts = [len(tokenizer.encode(prompt_text(tokenizer, questions[row["problem"]]))) for row in rows]
    kept = run.arm.answer_tokens
    responses = [min(row["response_length"], kept or row["response_length"]) for row in rows]
    examples = [{"messages": _messages(questions[row["problem"]], row["response"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(examples), run.folder / SFT_FILE)
    shapes = [ModelShape.from_folder(models[role]) for role in ("student", "teacher")]
    share = SEQUENCES * run.updates / len(rows)  # whole passes and a part of one
    exact, paper = seqkd_flops(*shapes, prompts, responses)
    return exact * share, paper * share


def _whole_answers(folder: Path) -> list[dict[str, Any]]:
    """The complete answers. An answer that hit the token limit has no ending to learn."""
    columns = ["problem", "response", "response_length", "natural_end"]
    found = [row for row in pq.read_table(folder / RESPONSES_FILE, columns=columns).to_pylist() if row["natural_end"]]
    if len(found) < SEQUENCES:
        raise RuntimeError(f"only {len(found)} of the teacher's answers ended by themselves; {SEQUENCES} are needed")
    return found


def _messages(question: str, response: str) -> list[dict[str, str]]:
    # verl's template adds the end of the turn
    answer = response.removesuffix(END_OF_TURN).removesuffix(END_OF_TEXT)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


# ---- `prefix-opd evaluate` in two separate processes: reading the problems starts threads, and verl
# ---- must start in a process that has none (prefix_opd/cpu/warm_python.py)


def _plan(model: str, problems: str, folder: Path, samples: int, limit: int, seed: int) -> None:
    sampling = Sampling(1.0, 1.0, MINIATURES["tiny"][1], seed)
    benchmarks = find([problems], Path(), samples, limit)
    check_target(model, None)
    target = open_target(model, None)
    config = evaluation_config(
        target, benchmarks, sampling, folder, CHUNK, teacher=tiny_path("teacher"), overrides=["experiment=tiny/full"]
    )
    write_json(folder / PLAN_FILE, check_same(folder, plan_of(config, target, benchmarks, sampling)))
    OmegaConf.save(config, folder / CONFIG_FILE, resolve=True)


def _measure(folder: Path) -> None:
    code = launch.evaluate(folder)
    if code:
        raise SystemExit(code)
    write_results(folder, json.loads((folder / PLAN_FILE).read_text()))
