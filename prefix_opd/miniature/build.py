"""Train a miniature's models from scratch: ``python -m prefix_opd.miniature.build --out DIR [--task cells]``.

The teacher learns careful responses without mistakes. The student starts from the teacher's weights and then learns the
mixture ``BASE`` of its task: it mostly guesses, sometimes makes mistakes, and ends its text like a base model. It keeps
the skill that distillation brings out. docs/miniature.md lists what else was tried. The reader starts from the
student's weights and learns to use a solution in its prompt; without one it answers as the student does.

The same seed, thread count, machine and torch version give the same weights. Another processor may round differently:
the weights then differ in their last bits, the accuracies within noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from prefix_opd.miniature import TASKS
from prefix_opd.miniature.cells import Cells
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.measure import measure_folder
from prefix_opd.miniature.sft import Recipe, batches, new_model, set_ends, train
from prefix_opd.miniature.task import TEACHER, Problem
from prefix_opd.miniature.tokenizer import END_OF_TEXT, IM_END, build_tokenizer


def _teacher(task: type[Problem], few: int, all_steps: int, steps: tuple[int, int]) -> tuple[Recipe, ...]:
    """First problems of few steps, then all; numbers of updates.

    The model learns copying and computing several times faster on few steps.
    """
    return (
        Recipe(task, style=TEACHER, updates=few, lr=3e-3, steps=steps),
        Recipe(task, style=TEACHER, updates=all_steps, lr=2e-3),
    )


def _student(task: type[Problem], balanced: int, base: int) -> tuple[Recipe, ...]:
    """First both styles in equal parts, then a gentle preference for the quick one; numbers of updates.

    With the final mixture from the start the student sees so little careful work that it loses the skill.
    """
    return (
        Recipe(task, style=replace(task.BASE, quick=0.5), updates=balanced, lr=1e-3),
        Recipe(task, style=task.BASE, updates=base, lr=3e-4),
    )


STAGES = {
    "chain": (
        ("teacher", IM_END, _teacher(Chain, 800, 1200, (2, 10))),
        ("student", END_OF_TEXT, _student(Chain, 200, 60)),
        ("reader", END_OF_TEXT, (Recipe(Chain, style=Chain.BASE, updates=400, lr=1e-3, solved=True),)),
    ),
    "cells": (
        ("cells_teacher", IM_END, _teacher(Cells, 400, 1500, (2, 8))),
        ("cells_student", END_OF_TEXT, _student(Cells, 200, 60)),
    ),
}
"""Name, end token and recipes of each model; each starts from the weights of the one before."""


def build(out_dir: str | Path, seed: int = 0, task: str = "chain") -> dict[str, Path]:
    """Train a task's models and write a folder for each under ``out_dir``. Returns the folders by name."""
    torch.manual_seed(seed)
    paths = {}
    model = new_model(build_tokenizer(IM_END))
    for name, eos, recipes in STAGES[task]:
        tokenizer = build_tokenizer(eos)
        for i, recipe in enumerate(recipes, start=1):
            # Each stage has its own seed, so that no stage sees the problems of another.
            stream = batches(tokenizer, recipe, f"{seed} {name} {i}")
            train(model, stream, recipe.updates, recipe.lr, name=f"{name} {i}/{len(recipes)}")
        set_ends(model, tokenizer)
        paths[name] = Path(out_dir) / name
        model.save_pretrained(paths[name])
        build_tokenizer(eos).save_pretrained(paths[name])  # a new one: training changed the padding of the first
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the models' folders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", choices=TASKS, default="chain")
    args = parser.parse_args()
    for name, folder in build(args.out, args.seed, args.task).items():
        print(f"{name}: {measure_folder(folder, task=TASKS[args.task])}")


if __name__ == "__main__":
    main()
