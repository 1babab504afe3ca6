"""``prefix-opd prepare``."""

from __future__ import annotations

from pathlib import Path

import typer


def prepare(
    dataset: str = typer.Argument(..., help="openthoughts3, math500, aime2024, aime2025, gpqa-main, …"),
    out: Path = typer.Option(None, help="Folder to write; data/DATASET by default."),
    from_dir: Path = typer.Option(None, "--from", help="Local folder or file in the hub's layout."),
    revision: str = typer.Option(None, help="Revision on the hub."),
    seed: int = typer.Option(0, help="Seed for sampling questions and shuffling options."),
    count: int = typer.Option(None, help="Number of questions."),
    domain: list[str] = typer.Option(None, help="Domain of OpenThoughts3 to keep. Repeatable."),
    responses: int = typer.Option(0, help="OpenThoughts3: responses kept per question, for SeqKD."),
    thinking: str = typer.Option("forced", help="prompt.thinking of the run; off: SeqKD responses are only answers."),
    tokenizer: str = typer.Option(None, help="Tokenizer that counts prompt tokens."),
    max_prompt_tokens: int = typer.Option(None, help="Count prompts longer than this."),
    drop_long: bool = typer.Option(False, help="Drop the prompts that --max-prompt-tokens counts."),
    decontaminate_against: list[Path] = typer.Option(None, help="Parquet file of an evaluation set. Repeatable."),
    keep_duplicates: bool = typer.Option(False, help="Report duplicates and keep them."),
    overwrite: bool = typer.Option(False, help="Replace an earlier preparation in the same folder."),
) -> None:
    """Convert a public data set to verl's parquet, and write a manifest beside it.

    \b
      prefix-opd prepare openthoughts3 --out data/openthoughts3 --seed 0
      prefix-opd prepare math500
      prefix-opd prepare openthoughts3 --from copies/openthoughts3 --count 1000 --domain math --responses 1
      prefix-opd prepare openthoughts3 --decontaminate-against data/math500/test.parquet
    """
    from prefix_opd.data import PrepareSettings
    from prefix_opd.data import prepare as run
    from prefix_opd.data.manifest import as_text

    settings = PrepareSettings(
        dataset=dataset,
        out=out,
        from_dir=from_dir,
        revision=revision,
        seed=seed,
        count=count,
        domains=tuple(domain or ()),
        thinking=thinking,
        responses_per_question=responses,
        tokenizer=tokenizer,
        max_prompt_tokens=max_prompt_tokens,
        drop_long=drop_long,
        decontaminate_against=tuple(decontaminate_against or ()),
        drop_duplicates=not keep_duplicates,
        overwrite=overwrite,
    )
    print(as_text(run(settings)), end="")
