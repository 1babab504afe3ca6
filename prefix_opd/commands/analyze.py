"""``prefix-opd analyze``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from prefix_opd.commands import PASSED_ON, Overrides

HELP = """Draw the paper's figures for your own teacher and student.

\b
  prefix-opd analyze signal outputs/tiny_schedule                  # reverse KL by position (figures 2 and 5)
  prefix-opd analyze compute outputs/tiny_schedule outputs/tiny_full   # accuracy against FLOP (figure 4)
  prefix-opd analyze schedule outputs/tiny_schedule                # L, lengths, endings, seconds
  prefix-opd analyze teacher-prefix experiment=tiny/schedule       # the student continues the teacher (figure 3)
  prefix-opd analyze student-prefix experiment=tiny/schedule       # the teacher continues: which L to train with

The first three read run folders. The last two generate with vLLM. They take an experiment and Hydra overrides, as
train does, or --student, --teacher and --data. Each prints a table and writes a JSON file and a PNG.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
Out = Annotated[Path | None, typer.Option(help="JSON file, PNG beside it; RUN/analysis/KIND.json by default.")]


@app.command()
def signal(
    run: Path = typer.Argument(..., help="A run's folder."),
    steps: str = typer.Option(None, help="Updates, e.g. 1,20,40; the first, a middle and the last by default."),
    width: int = typer.Option(None, "--bin", help="Positions per bin, a multiple of the bin that the run recorded."),
    out: Out = None,
) -> None:
    """Reverse KL by position: cut rollouts, natural endings, the probe."""
    from prefix_opd.analysis import figures, tables
    from prefix_opd.analysis.signal import signal as read
    from prefix_opd.run.history import read_finished

    where = _where(out, run, "signal")
    found = read(read_finished(run), _numbers("--steps", steps), width)
    _tell(found, tables.signal_table(found), figures.signal_figure, where, [run])


@app.command()
def compute(
    runs: list[Path] = typer.Argument(..., help="Run folders with the same validation settings."),
    target: float = typer.Option(None, help="Accuracy, 0 to 1; the highest that every run reached by default."),
    reference: str = typer.Option(None, help="Run that ratios refer to; full OPD by default."),
    out: Out = None,
) -> None:
    """Accuracy against FLOP and seconds; the cost of a given accuracy."""
    from prefix_opd.analysis import figures, tables
    from prefix_opd.analysis.compute import compute as read
    from prefix_opd.run.history import read_finished

    where = _where(out, runs[0], "compute")
    found = read([read_finished(run) for run in runs], target, reference)
    _tell(found, tables.compute_table(found), figures.compute_figure, where, runs)


@app.command()
def schedule(
    run: Path = typer.Argument(..., help="A run's folder."),
    out: Out = None,
) -> None:
    """L, lengths, endings and seconds by update."""
    from prefix_opd.analysis import figures, tables
    from prefix_opd.analysis.schedule import schedule as read
    from prefix_opd.run.history import read_finished

    where = _where(out, run, "schedule")
    found = read(read_finished(run))
    _tell(found, tables.schedule_table(found), figures.schedule_figure, where, [run])


def prefix(
    context: typer.Context,
    overrides: Overrides = None,
    student: str = typer.Option(None, help="Folder or hub id; that of the experiment by default."),
    teacher: str = typer.Option(None, help="Folder or hub id; that of the experiment by default."),
    data: Path = typer.Option(None, help="Parquet of problems with answers; data.val_files by default."),
    problems: int = typer.Option(64, help="Number of problems, from the first."),
    samples: int = typer.Option(1, help="Answers per problem."),
    lengths: str = typer.Option(None, help="Prefix lengths, e.g. 256,512; 1/64 to 1/2 of the longest by default."),
    margin: int = typer.Option(
        None, help="Last tokens of an answer that no prefix has; 1/32 of the longest by default."
    ),
    seed: int = typer.Option(0, help="Sampling seed."),
    out: Out = None,
) -> None:
    from prefix_opd.analysis.prefixes import default_lengths, default_margin
    from prefix_opd.base.errors import at_least
    from prefix_opd.launch import prepare

    for flag, value in {"--problems": problems, "--samples": samples, "--margin": margin}.items():
        at_least(flag, value, 1)
    at_least("--seed", seed, 0)
    asked = _numbers("--lengths", lengths)
    config = prepare([*(overrides or []), *_models(student, teacher, data)])
    longest, run = int(config.data.max_response_length), Path(config.trainer.default_local_dir)
    kind = str(context.info_name)
    where = _where(out, run, kind)

    from prefix_opd.analysis import continuation, figures, tables

    chosen, kept = asked or default_lengths(longest), margin or default_margin(longest)
    found = continuation.measure(kind, config, chosen, kept, problems, samples, seed)
    _tell(found, tables.prefixes_table(found), figures.prefixes_figure, where, [run])
    if kind == "student-prefix":
        print(tables.advice(found))


for giver, receiver in (("teacher", "student"), ("student", "teacher")):
    told = f"The {receiver} continues the {giver}'s first L tokens: accuracy by L."
    app.command(f"{giver}-prefix", help=told, context_settings=PASSED_ON)(prefix)


def _models(student: str | None, teacher: str | None, data: Path | None) -> list[str]:
    """Overrides for the flags."""
    from prefix_opd.analysis.prefixes import NOTHING_IS_TRAINED
    from prefix_opd.config.keys import STUDENT_KEY, TEACHER_KEY

    given = {STUDENT_KEY: student, TEACHER_KEY: teacher, "data.val_files": data, "data.train_files": data}
    return [*(f"{key}='{value}'" for key, value in given.items() if value is not None), *NOTHING_IS_TRAINED]


def _numbers(flag: str, text: str | None) -> list[int] | None:
    from prefix_opd.base.errors import UserError

    if text is None:
        return None
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{flag} {text}", "must be whole numbers separated by commas", f"e.g. {flag} 8,16") from None
    for number in found:
        if number < 1:
            raise UserError(f"{flag} {text}", f"{number} must be at least 1")
    return found


def _where(out: Path | None, run: Path, name: str) -> Path:
    """Path of the JSON output. Raises UserError if it is not writable, or if the picture would overwrite it."""
    from prefix_opd.base.errors import UserError
    from prefix_opd.base.files import check_out

    if out is not None and out.suffix.lower() == ".png":
        raise UserError(f"--out {out}", "names the JSON file; the PNG is written beside it", "end it in .json")
    path = out or run / "analysis" / f"{name}.json"
    check_out(path)
    return path


def _tell(found: Any, table: Any, figure: Callable[[Any], Any], path: Path, runs: Sequence[Path]) -> None:
    """Print the table, write JSON and PNG, and record the command in the run folders."""
    from prefix_opd.analysis.draw import draw
    from prefix_opd.base.files import write_json
    from prefix_opd.base.terminal import console
    from prefix_opd.run.folder import keep_command

    console().print(table, highlight=False)
    write_json(path, found.as_dict())
    print(f"{path} and {draw(figure(found), path.with_suffix('.png'))}")
    keep_command(runs)
