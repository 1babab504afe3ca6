"""The teacher: the student's model, fine-tuned on an endless stream of training problems with worked solutions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from prefix_opd.base.files import whole_folder
from prefix_opd.miniature.sft import train
from prefix_opd.smollm2.problems import Problem, random_problem


def batches(tokenizer: PreTrainedTokenizerBase, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids [``size``, T] and labels [``size``, T]: the solution and its end token, -100 elsewhere."""
    for problems in _of_similar_length(size, random.Random(f"teacher {seed}")):
        messages = [[{"role": "user", "content": one.prompt}] for one in problems]
        prompts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answers = [one.solution + tokenizer.eos_token for one in problems]
        asked, answered = (tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (prompts, answers))
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(asked, answered, strict=True))
        ids = torch.full((size, longest), tokenizer.pad_token_id)
        labels = torch.full((size, longest), -100)
        for i, (prompt, answer) in enumerate(zip(asked, answered, strict=True)):
            stop = len(prompt) + len(answer)
            ids[i, :stop] = torch.tensor(prompt + answer)
            labels[i, len(prompt) : stop] = torch.tensor(answer)
        yield ids, labels


def _of_similar_length(size: int, rng: random.Random) -> Iterator[list[Problem]]:
    """``size`` training problems at a time. Similar lengths need little padding."""
    while True:
        drawn = (random_problem(rng, "train") for _ in range(8 * size))
        problems = sorted(drawn, key=lambda one: len(one.prompt) + len(one.solution))
        batches = [problems[start : start + size] for start in range(0, len(problems), size)]
        rng.shuffle(batches)
        yield from batches


def has_bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers in hardware. With AMX an update of this model is 5 times as fast."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fine_tune(model_path: str, out: Path, updates: int, batch: int, lr: float, seed: int = 0) -> Path:
    """Fine-tune the model of a folder or hub id and write it to ``out``, on a GPU if there is one.

    Products are in bf16 on a GPU and on a CPU with instructions for them.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).to(device)
    bf16 = device == "cuda" or has_bf16()
    train(model, batches(tokenizer, batch, seed), updates, lr, "teacher", bf16)
    with whole_folder(out) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return out
