"""Supervised training on an endless stream of batches, and the miniature's stream: new problems in one style."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from prefix_opd.miniature.task import (
    END_OF_TEXT,
    END_OF_TURN,
    TEACHER,
    Problem,
    Style,
    respond,
    with_solution,
)
from prefix_opd.miniature.tokenizer import THINK, prompt_text

WARM_UP = 50  # updates, at most a tenth of all
FLOOR = 0.02  # share of the learning rate at the end of the cosine


@dataclass(frozen=True)
class Recipe:
    """One stage of training."""

    task: type[Problem]
    style: Style
    """How the responses are written."""
    updates: int
    """Optimiser updates."""
    batch: int = 32
    """Responses per update."""
    lr: float = 2e-3
    """Peak learning rate; warm-up, then cosine."""
    steps: tuple[int, int] | None = None
    """Fewest and most steps of a problem; None: the task's own."""
    solved: bool = False
    """Every other prompt has the solution above the question, and the response to it is careful."""


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A new Qwen3 with less than half a million parameters.

    ``vocab_size`` equals ``len(tokenizer)``. verl masks rows beyond the tokenizer when it samples, but the softmax of
    its trainer includes them, so extra rows would make the two log-probs differ.
    """
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            initializer_range=0.08,  # near 1 / sqrt(hidden_size); with the usual 0.02 this narrow model learns late
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def set_ends(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the tokenizer's end token to the config, and both end tokens, its own first, to the generation config."""
    ends = tokenizer.convert_tokens_to_ids([END_OF_TURN, END_OF_TEXT])
    model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        do_sample=True,
        eos_token_id=sorted(ends, key=lambda token: token != tokenizer.eos_token_id),
        pad_token_id=tokenizer.pad_token_id,
    )


def train(
    model: PreTrainedModel,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    updates: int,
    lr: float,
    name: str,
    bf16: bool = False,
) -> None:
    """Train ``model`` in place on the cross-entropy of responses, averaged over response tokens.

    Args:
        batches: token ids [B, T] and their labels [B, T], -100 on the prompt and on padding. Padding is on the right
            and has no labels, so causal attention needs no mask.
        lr: peak learning rate; warm-up, then cosine.
        name: of the progress bar.
        bf16: compute matrix products in bf16; the weights stay in fp32.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    model.train()
    bar = tqdm(range(updates), desc=name)
    for update in bar:
        warm = min(1.0, (update + 1) / min(WARM_UP, max(1, updates // 10)))
        cosine = 0.5 * (1 + math.cos(math.pi * update / updates))
        for group in optimizer.param_groups:
            group["lr"] = lr * warm * (FLOOR + (1 - FLOOR) * cosine)
        ids, labels = (tensor.to(model.device) for tensor in next(batches))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            hidden = model.base_model(input_ids=ids).last_hidden_state[:, :-1]
            predicted = labels[:, 1:] != -100  # logits of these tokens alone
            logits = model.get_output_embeddings()(hidden[predicted])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][predicted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if update % 10 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    model.eval()


def batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The miniature's batches for `train`."""
    rng = random.Random(seed)
    careful = replace(TEACHER, end_of_text=recipe.style.end_of_text)
    while True:
        count = rng.randint(*(recipe.steps or recipe.task.STEPS))  # the same number of steps in a batch: little padding
        problems = [recipe.task.draw(rng, (count, count)) for _ in range(recipe.batch)]
        texts = [
            prompt_text(tokenizer, with_solution(p)) + respond(p, careful, rng)
            if recipe.solved and row % 2
            else prompt_text(tokenizer, p.question) + respond(p, recipe.style, rng)
            for row, p in enumerate(problems)
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        ids = batch["input_ids"]
        after_think = (ids == tokenizer.convert_tokens_to_ids(THINK)).cumsum(1).roll(1, dims=1)
        after_think[:, 0] = 0
        yield ids, ids.masked_fill((after_think == 0) | (batch["attention_mask"] == 0), -100)
