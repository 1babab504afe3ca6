"""Export a run's sharded checkpoint as a Hugging Face folder: the model, or the adapter of a LoRA student."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import OmegaConf

from prefix_opd import ALL_PATCHES, RUN
from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_object, whole_folder, write_json
from prefix_opd.base.processes import python_module
from prefix_opd.base.processes import run as run_to_end
from prefix_opd.config.keys import STUDENT_KEY
from prefix_opd.config.lora import Lora
from prefix_opd.config.models import Model
from prefix_opd.cpu.environment import CPU_ENVIRONMENT
from prefix_opd.run.adapter import merge, write_adapter
from prefix_opd.run.checkpoints import choose, damage
from prefix_opd.run.folder import check_is_run, read_config

TRUST = "add --trust-remote-code"


def export_checkpoint(
    run: Path,
    step: int | None = None,
    out: Path | None = None,
    adapter: bool = False,
    trusted: bool = False,
    trust: str = TRUST,
) -> Path:
    """Export one checkpoint. The folder appears whole or not at all.

    The exported model generates as in training: its chat template includes the forced prompt ending, and its generation
    config has the stop tokens of the rollouts.

    Args:
        step: the checkpoint's step, by default the last one.
        out: the folder to write and to return, by default ``run/hf_step_N`` or ``run/adapter_step_N``.
        adapter: write the adapter of a LoRA run in PEFT's layout, not the merged weights.
        trusted: the user trusts the Python that the checkpoint brings, and says so by ``trust``. The run's config does
            not count, because it may come from elsewhere.
    """
    config = read_config(check_is_run(run))
    lora = Lora.of(config)
    if adapter and lora is None:
        raise UserError("--adapter", f"{run} trained all weights: it has no adapter", "leave --adapter out")
    step, checkpoint = choose(run, step)
    if problem := damage(checkpoint):
        raise UserError(str(checkpoint), f"is damaged: {problem}", "choose another --step")
    actor = checkpoint / "actor"
    Model("checkpoint", str(actor / "huggingface"), trusted).check_own_code(trust)
    out = out or run / f"{'adapter' if adapter else 'hf'}_step_{step}"
    if out.exists():
        raise UserError(f"--out={out}", "exists already", "choose another folder")
    student = Model(STUDENT_KEY, str(OmegaConf.select(config, STUDENT_KEY)), trusted)
    if lora is not None and not adapter:  # the checkpoint has the adapter alone
        student.check_own_code(trust)
        student.check_weights()
    with whole_folder(out) as draft:
        if lora is None:
            _merge_shards(actor, draft, config.platform, trusted)
        elif adapter:
            _write_adapter(actor, draft, student, lora)
        else:
            with TemporaryDirectory(dir=out.parent, prefix=".adapter-") as folder:
                _write_adapter(actor, Path(folder), student, lora)
                merge(student, Path(folder), draft)
        path = draft / "generation_config.json"
        generation = read_object(path) if path.exists() else {}
        generation["eos_token_id"] = list(config.prefix_opd.stop_token_ids)
        write_json(path, generation)
    return out


def _merge_shards(actor: Path, draft: Path, platform: str, trusted: bool) -> None:
    arguments = ["merge", "--backend", "fsdp", "--local_dir", str(actor), "--target_dir", str(draft)]
    arguments += ["--trust-remote-code"] if trusted else []
    merged = run_to_end(python_module("verl.model_merger", arguments), environment=merger_environment(platform))
    if merged.returncode:
        raise RuntimeError(f"verl.model_merger failed:\n{merged.stdout[-2000:]}\n{merged.stderr[-2000:]}")
    if trusted:
        for path in (actor / "huggingface").glob("*.py"):  # what auto_map names; transformers does not copy it
            shutil.copy(path, draft)


def _write_adapter(actor: Path, folder: Path, student: Model, lora: Lora) -> None:
    write_adapter(actor, student.path, lora, folder)
    for path in (actor / "huggingface").iterdir():
        if path.is_file() and path.name != "config.json":  # the tokenizer and the chat template
            shutil.copy(path, folder)


def merger_environment(platform: str) -> dict[str, str]:
    """Environment of verl's merger, which unpickles shards (verl/model_merger/fsdp_model_merger.py).

    ``TORCH_FORCE_WEIGHTS_ONLY_LOAD`` makes torch unpickle only tensors and plain values.
    """
    forced = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", RUN: ALL_PATCHES}
    return {**(CPU_ENVIRONMENT if platform == "cpu" else {}), **os.environ, **forced}
