"""``prefix-opd export``."""

from __future__ import annotations

from pathlib import Path

import typer


def export(
    run: Path = typer.Argument(..., help="A run's folder."),
    step: int = typer.Option(None, help="Checkpoint; the last by default."),
    out: Path = typer.Option(None, help="Folder to write; RUN/hf_step_N or RUN/adapter_step_N by default."),
    adapter: bool = typer.Option(False, "--adapter", help="Write the adapter of a LoRA run, not a merged model."),
    trusted: bool = typer.Option(False, "--trust-remote-code", help="Run Python code that the checkpoint contains."),
) -> None:
    """Convert a checkpoint to a Hugging Face folder that transformers and vLLM can load.

    \b
      prefix-opd export outputs/tiny_schedule
      prefix-opd export outputs/tiny_schedule --step 20 --out my_model
      prefix-opd export outputs/tiny_lora_schedule --adapter

    The adapter of a LoRA run is merged into the student's weights; --adapter writes it alone, as PEFT stores it.
    """
    from prefix_opd.run.export import export_checkpoint

    print(export_checkpoint(run, step, out, adapter, trusted))
