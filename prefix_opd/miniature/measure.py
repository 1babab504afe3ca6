"""Accuracy of a model folder on the test problems at temperature 1, with at most the task's ``MAX_TOKENS`` tokens.

Run ``python -m prefix_opd.miniature.measure FOLDER [--problems 512] [--seed 0] [--solved] [--task cells]``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from prefix_opd.base.intervals import wilson
from prefix_opd.miniature import TASKS
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.data import draw_problems
from prefix_opd.miniature.task import END_OF_TEXT, END_OF_TURN, Problem, grade, with_solution
from prefix_opd.miniature.tokenizer import prompt_text

BATCH = 128
DATA_SEED = 0  # default seed of ``write_data``, whose test split is measured


@dataclass(frozen=True)
class Accuracy:
    """Measured accuracy. Example: ``Accuracy(right=51, problems=512, mean_tokens=101.5, end_of_text=0.91, ...)``."""

    right: int
    problems: int
    mean_tokens: float
    """Mean length of a response, end token included."""
    end_of_text: float
    """Share of the responses that ended with ``<|endoftext|>``."""
    end_of_turn: float
    """Share of the responses that ended with ``<|im_end|>``."""

    @property
    def share(self) -> float:
        return self.right / self.problems

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.share, self.problems)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.share:.1%} right (95% interval {low:.1%} to {high:.1%}, {self.problems} problems), "
            f"mean {self.mean_tokens:.1f} tokens, "
            f"{self.end_of_text:.1%} end with {END_OF_TEXT}, {self.end_of_turn:.1%} with {END_OF_TURN}"
        )


def sample(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str], max_new_tokens: int
) -> list[list[int]]:
    """Continue each of the B prompts until an end token (included in the result) or ``max_new_tokens``.

    Samples from the full softmax, without top-k and top-p.
    """
    ends = tokenizer.convert_tokens_to_ids([END_OF_TEXT, END_OF_TURN])
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
    found = model.generate(
        **batch, max_new_tokens=max_new_tokens, do_sample=True, top_k=0, eos_token_id=ends, pad_token_id=ends[0]
    )
    rows = found[:, batch["input_ids"].shape[1] :].tolist()
    return [row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))] for row in rows]


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    problems: int = 512,
    seed: int = 0,
    solved: bool = False,
    task: type[Problem] = Chain,
) -> Accuracy:
    """Sample one answer to each of the first ``problems`` test problems and grade it.

    Args:
        seed: of the sampling.
        solved: the prompts have the solution above the question.
    """
    question = with_solution if solved else lambda problem: problem.question
    test = draw_problems(train=0, test=problems, seed=DATA_SEED, task=task)["test"]
    torch.manual_seed(seed)
    responses: list[list[int]] = []
    for i in range(0, problems, BATCH):
        prompts = [prompt_text(tokenizer, question(problem)) for problem in test[i : i + BATCH]]
        responses += sample(model, tokenizer, prompts, task.MAX_TOKENS)
    texts = [tokenizer.decode(response) for response in responses]
    return Accuracy(
        right=sum(grade(text, problem.answer) for text, problem in zip(texts, test, strict=True)),
        problems=problems,
        mean_tokens=sum(map(len, responses)) / problems,
        end_of_text=sum(text.endswith(END_OF_TEXT) for text in texts) / problems,
        end_of_turn=sum(text.endswith(END_OF_TURN) for text in texts) / problems,
    )


def measure_folder(
    folder: str | Path, problems: int = 512, seed: int = 0, solved: bool = False, task: type[Problem] = Chain
) -> Accuracy:
    """`measure` for a Hugging Face folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return measure(model, AutoTokenizer.from_pretrained(folder), problems, seed, solved, task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a Hugging Face model folder")
    parser.add_argument("--problems", type=int, default=512, help="number of test problems")
    parser.add_argument("--seed", type=int, default=0, help="sampling seed")
    parser.add_argument("--solved", action="store_true", help="prompts with the solution above the question")
    parser.add_argument("--task", choices=TASKS, default="chain")
    args = parser.parse_args()
    print(measure_folder(args.folder, args.problems, args.seed, args.solved, TASKS[args.task]))


if __name__ == "__main__":
    main()
