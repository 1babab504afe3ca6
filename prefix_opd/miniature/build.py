"""Train the tiny teacher and the tiny base student from nothing: ``python -m prefix_opd.miniature.build --out DIR``.

The teacher learns flawless careful responses. The student starts from the teacher's weights and then learns the
sloppy mixture ``task.BASE``: it mostly guesses, slips now and then, and ends its text like a base model. So it has the
skill that distillation is to bring out. What else was tried is in docs/miniature.md.

The same seed, thread count, machine and torch release give the same weights. Another processor may round
differently, and then the weights differ in their last bits and the accuracies within their noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from prefix_opd.miniature.measure import measure_folder
from prefix_opd.miniature.sft import Recipe, new_model, set_ends, train
from prefix_opd.miniature.task import BALANCED, BASE, STEPS, TEACHER
from prefix_opd.miniature.tokenizer import END_OF_TEXT, IM_END, build_tokenizer

# Short chains first: copying from the question and adding are learnt several times sooner there.
TEACHER_RECIPES = (
    Recipe(style=TEACHER, updates=800, lr=3e-3, steps=(2, 10)),
    Recipe(style=TEACHER, updates=1200, lr=2e-3, steps=STEPS),
)
# Both styles in equal parts first, then, gently, the taste for the quick one. With the final mixture from the start the
# student sees so little careful work that it forgets how, and what a short prefix could bring out is gone.
STUDENT_RECIPES = (
    Recipe(style=BALANCED, updates=200, lr=1e-3),
    Recipe(style=BASE, updates=60, lr=3e-4),
)


def build(out_dir: str | Path, seed: int = 0) -> dict[str, Path]:
    """Train both models and write ``teacher/`` and ``student/`` under ``out_dir``. Returns the two folders."""
    torch.manual_seed(seed)
    paths = {}
    model = new_model(build_tokenizer(IM_END))
    for role, eos, recipes in (("teacher", IM_END, TEACHER_RECIPES), ("student", END_OF_TEXT, STUDENT_RECIPES)):
        tokenizer = build_tokenizer(eos)
        for i, recipe in enumerate(recipes, start=1):
            # A seed of its own for each stage, so that no stage sees the problems of another.
            train(model, tokenizer, recipe, seed=f"{seed} {role} {i}", name=f"{role} {i}/{len(recipes)}")
        set_ends(model, tokenizer)
        paths[role] = Path(out_dir) / role
        model.save_pretrained(paths[role])
        build_tokenizer(eos).save_pretrained(paths[role])  # a fresh one: training left its padding set
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for teacher/ and student/")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for role, folder in build(args.out, args.seed).items():
        print(f"{role}: {measure_folder(folder)}")


if __name__ == "__main__":
    main()
