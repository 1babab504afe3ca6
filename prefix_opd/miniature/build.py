"""Train the miniature's three models from scratch: ``python -m prefix_opd.miniature.build --out DIR``.

The teacher learns careful responses without mistakes. The student starts from the teacher's weights and then learns the
mixture ``task.BASE``: it mostly guesses, sometimes makes mistakes, and ends its text like a base model. It keeps the
skill that distillation brings out. docs/miniature.md lists what else was tried. The reader starts from the student's
weights and learns to use a solution in its prompt; without one it answers as the student does.

The same seed, thread count, machine and torch version give the same weights. Another processor may round differently:
the weights then differ in their last bits, the accuracies within noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from prefix_opd.miniature.measure import measure_folder
from prefix_opd.miniature.sft import Recipe, batches, new_model, set_ends, train
from prefix_opd.miniature.task import BALANCED, BASE, STEPS, TEACHER
from prefix_opd.miniature.tokenizer import END_OF_TEXT, IM_END, build_tokenizer

# Short chains first: the model learns copying and adding several times faster on them.
TEACHER_RECIPES = (
    Recipe(style=TEACHER, updates=800, lr=3e-3, steps=(2, 10)),
    Recipe(style=TEACHER, updates=1200, lr=2e-3, steps=STEPS),
)
# First both styles in equal parts, then a gentle preference for the quick one. With the final mixture from the start
# the student sees so little careful work that it loses the skill.
STUDENT_RECIPES = (
    Recipe(style=BALANCED, updates=200, lr=1e-3),
    Recipe(style=BASE, updates=60, lr=3e-4),
)
READER_RECIPES = (Recipe(style=BASE, updates=400, lr=1e-3, solved=True),)
STAGES = (
    ("teacher", IM_END, TEACHER_RECIPES),
    ("student", END_OF_TEXT, STUDENT_RECIPES),
    ("reader", END_OF_TEXT, READER_RECIPES),
)
"""Name, end token and recipes of each model; each starts from the weights of the one before."""


def build(out_dir: str | Path, seed: int = 0) -> dict[str, Path]:
    """Train the models and write a folder for each under ``out_dir``. Returns the folders by name."""
    torch.manual_seed(seed)
    paths = {}
    model = new_model(build_tokenizer(IM_END))
    for role, eos, recipes in STAGES:
        tokenizer = build_tokenizer(eos)
        for i, recipe in enumerate(recipes, start=1):
            # Each stage has its own seed, so that no stage sees the problems of another.
            stream = batches(tokenizer, recipe, f"{seed} {role} {i}")
            train(model, stream, recipe.updates, recipe.lr, name=f"{role} {i}/{len(recipes)}")
        set_ends(model, tokenizer)
        paths[role] = Path(out_dir) / role
        model.save_pretrained(paths[role])
        build_tokenizer(eos).save_pretrained(paths[role])  # a new one: training changed the padding of the first
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the models' folders")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for role, folder in build(args.out, args.seed).items():
        print(f"{role}: {measure_folder(folder)}")


if __name__ == "__main__":
    main()
