"""Export a run's sharded checkpoint as a Hugging Face folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from prefix_opd import ALL_PATCHES, RUN
from prefix_opd.base.errors import UserError
from prefix_opd.base.files import whole_folder, write_json
from prefix_opd.base.processes import python_module
from prefix_opd.base.processes import run as run_to_end
from prefix_opd.config.models import Model
from prefix_opd.cpu.environment import CPU_ENVIRONMENT
from prefix_opd.run.checkpoints import choose
from prefix_opd.run.folder import check_full_weights, check_is_run, read_config

TRUST = "add --trust-remote-code"


def export_checkpoint(
    run: Path, step: int | None = None, out: Path | None = None, trusted: bool = False, trust: str = TRUST
) -> Path:
    """Merge the shards of one checkpoint with verl's merger. The folder appears whole or not at all.

    The exported model generates as in training: its chat template includes the forced prompt ending, and its generation
    config has the stop tokens of the rollouts.

    Args:
        run: a run's folder.
        step: the checkpoint's step, by default the last one.
        out: the folder to write, by default ``run/hf_step_N``.
        trusted: the user trusts the Python that the checkpoint brings. The run's config does not count, because it may
            come from elsewhere.
        trust: how the user says so.

    Returns:
        The folder.
    """
    config = read_config(check_is_run(run))
    check_full_weights(run, config)
    step, checkpoint = choose(run, step)
    model = checkpoint / "actor" / "huggingface"
    Model("checkpoint", str(model), trusted).check_own_code(trust)
    out = out or run / f"hf_step_{step}"
    if out.exists():
        raise UserError(f"--out={out}", "exists already", "choose another folder")
    with whole_folder(out) as draft:
        arguments = ["merge", "--backend", "fsdp", "--local_dir", str(checkpoint / "actor"), "--target_dir", str(draft)]
        arguments += ["--trust-remote-code"] if trusted else []
        command = python_module("verl.model_merger", arguments)
        merged = run_to_end(command, environment=merger_environment(config.platform))
        if merged.returncode:
            raise RuntimeError(f"verl.model_merger failed:\n{merged.stdout[-2000:]}\n{merged.stderr[-2000:]}")
        if trusted:
            for path in model.glob("*.py"):  # what auto_map names; transformers does not copy it
                shutil.copy(path, draft)
        path = draft / "generation_config.json"
        generation = json.loads(path.read_text()) if path.exists() else {}
        generation["eos_token_id"] = list(config.prefix_opd.stop_token_ids)
        write_json(path, generation)
    return out


def merger_environment(platform: str) -> dict[str, str]:
    """Environment of verl's merger, which unpickles shards (verl/model_merger/fsdp_model_merger.py).

    ``TORCH_FORCE_WEIGHTS_ONLY_LOAD`` makes torch unpickle only tensors and plain values.
    """
    forced = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", RUN: ALL_PATCHES}
    return {**(CPU_ENVIRONMENT if platform == "cpu" else {}), **os.environ, **forced}
