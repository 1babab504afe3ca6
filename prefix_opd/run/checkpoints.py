"""Checkpoints: detect damaged ones, choose the one to resume from, remove old ones.

verl writes the files of ``global_step_N`` one by one and ``latest_checkpointed_iteration.txt`` last. A kill or a full
disk can leave a checkpoint incomplete, and verl notices only while it loads it. We therefore write a manifest after
all files have reached the disk. It has the name, the size and a checksum of each file. A checkpoint that matches its
manifest is whole. A run resumes from the newest whole checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import onto_disk, sha256_of, write_whole
from prefix_opd.config.settings import CheckpointSettings
from prefix_opd.run.ledger import accuracies

logger = logging.getLogger(__name__)

MANIFEST_FILE = "prefix_opd_manifest.json"
LEDGER_FILE = "prefix_opd.json"
"""In a checkpoint: the ledger, its step's metrics, the state of probe and schedule, hashes of the training data."""
LATEST_FILE = "latest_checkpointed_iteration.txt"
"""verl writes this file."""
BLOCK_BYTES = 1 << 20
BLOCKS = 16
"""Blocks in a checksum, evenly spread over a file: all of a small file, 16 MiB of a large one."""
ENDS = 2
"""Blocks in a checksum of an older manifest, which does not give the number."""
_STEP = re.compile(r"^global_step_(\d+)$")
_SHARD = re.compile(r"^model_world_size_(\d+)_rank_0\.pt$")
_REMOVED = ".removed_"
SET_ASIDE = "set_aside"
"""Folder for checkpoints of later steps than the one that a run starts from."""


def write_manifest(checkpoint: Path) -> None:
    """Mark a checkpoint as whole. Call it when all its files are written."""
    listed = _files(checkpoint)
    # verl leaves its files in the page cache: they must reach the disk before the manifest does
    for path in [*listed, *{path.parent for path in listed}, checkpoint.parent]:
        onto_disk(path)
    files = {str(path.relative_to(checkpoint)): [*_signature(path, BLOCKS), BLOCKS] for path in listed}
    write_whole(checkpoint / MANIFEST_FILE, json.dumps(files, indent=1))


def clear(checkpoint: Path) -> None:
    """Remove the rest of an incomplete checkpoint: shards of another number of ranks would stay beside the new ones."""
    if not (checkpoint / MANIFEST_FILE).exists() or damage(checkpoint):
        shutil.rmtree(checkpoint, ignore_errors=True)


def damage(checkpoint: Path) -> str | None:
    """A short description of the damage; None for a whole checkpoint.

    A checkpoint without a manifest (from plain verl or an older version) is whole if it has a model and each ``.pt``
    file is a complete archive.
    """
    manifest = checkpoint / MANIFEST_FILE
    if not manifest.exists():
        if not any(checkpoint.glob("actor/model_*")) and not any(checkpoint.glob("actor/**/*.distcp")):
            return "it contains no model"
        broken = (path for path in _files(checkpoint) if path.suffix == ".pt" and not zipfile.is_zipfile(path))
        return next((f"{path.relative_to(checkpoint)} is truncated" for path in broken), None)
    try:
        listed = json.loads(manifest.read_text())
    except ValueError:
        return f"{MANIFEST_FILE} is not JSON"
    if not isinstance(listed, dict) or not all(isinstance(entry, list) and len(entry) > 1 for entry in listed.values()):
        return f"{MANIFEST_FILE} is not a list of files with sizes"
    for name, (size, checksum, *blocks) in listed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
        if _signature(path, *(blocks or [ENDS]))[1] != checksum:
            return f"the content of {name} has changed"
    return None


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)


def _signature(path: Path, blocks: int) -> list[int]:
    """Size, and CRC-32 of ``blocks`` blocks without overlap, the first and the last block of the file included."""
    size = path.stat().st_size
    checksum = end = 0
    with path.open("rb") as file:
        for i in range(blocks):
            start = max(end, i * (size - BLOCK_BYTES) // (blocks - 1))
            file.seek(start)
            checksum = zlib.crc32(file.read(BLOCK_BYTES), checksum)
            end = start + BLOCK_BYTES
    return [size, checksum]


def saved(run: Path) -> dict[int, Path]:
    """Step -> checkpoint, for each checkpoint with a manifest or up to the latest step that verl recorded."""
    found = {int(match[1]): path for path in run.glob("global_step_*") if (match := _STEP.match(path.name))}
    try:
        latest = int((run / LATEST_FILE).read_text())
    except (FileNotFoundError, ValueError):  # missing, or truncated while verl was writing it
        latest = 0
    return {step: found[step] for step in sorted(found) if step <= latest or (found[step] / MANIFEST_FILE).exists()}


def choose(run: Path, step: int | None, name: str = "") -> tuple[int, Path]:
    """(step, checkpoint) of the step, by default of the last one. Raises UserError, which calls the run ``name``, by
    default its folder, if there is none."""
    found = saved(run)
    if not found:
        raise UserError(name or str(run), "has no checkpoint", "set trainer.save_freq above 0 and train")
    step = max(found) if step is None else step
    if step not in found:
        raise UserError(f"--step={step}", "has no checkpoint", f"choose from {', '.join(map(str, found))}")
    return step, found[step]


def newest_whole(run: Path) -> Path | None:
    """The newest whole checkpoint; None where the run has no checkpoint. Warns about each damaged one.

    Raises:
        UserError: all checkpoints are damaged. A silent fresh start would discard the run.
    """
    checkpoints = saved(run)
    problem = ""
    for step in sorted(checkpoints, reverse=True):
        problem = damage(checkpoints[step]) or ""
        if not problem:
            return checkpoints[step]
        logger.warning("%s is damaged (%s): trying the previous checkpoint", checkpoints[step], problem)
    if checkpoints:
        raise UserError(
            f"trainer.default_local_dir={run}",
            f"all {len(checkpoints)} checkpoints are damaged (the first: {problem})",
            "restore one, or remove the folder to start from scratch",
        )
    return None


def settle_resume(config: DictConfig) -> Path | None:
    """Set the checkpoint that verl loads, in place of its own "latest". Returns it; None for a fresh start.

    Raises:
        UserError: the given checkpoint is damaged or outside the run's folder, all checkpoints are damaged, another
            number of ranks wrote it, or the training data has changed.
    """
    trainer = config.trainer
    if trainer.resume_mode == "resume_path":
        asked = Path(trainer.resume_from_path)
        _refuse_foreign(config, asked)
        if problem := damage(asked):
            raise UserError(f"trainer.resume_from_path={asked}", f"is damaged: {problem}", "name another checkpoint")
        _refuse_other_ranks(config, asked)
        _refuse_other_data(config, asked)
        return asked
    if trainer.resume_mode != "auto":
        return None
    found = newest_whole(Path(trainer.default_local_dir))
    if found is not None:
        _refuse_other_ranks(config, found)
        _refuse_other_data(config, found)
        trainer.resume_mode = "resume_path"
        trainer.resume_from_path = str(found)
    return found


def data_fingerprint(config: DictConfig) -> list[str]:
    """SHA-256 of each training file, in order. Each checkpoint stores it."""
    named = config.data.train_files
    files = [named] if isinstance(named, str) else list(named)
    return [sha256_of(Path(file).expanduser()) for file in files]


def ranks_of(actor: Path) -> int | None:
    """Number of ranks that wrote a checkpoint's folder ``actor`` last, by its shards' names; None where it has none."""
    first = ((path.stat().st_mtime, _SHARD.match(path.name)) for path in actor.glob("model_world_size_*"))
    found = {written: int(match[1]) for written, match in first if match}
    return found[max(found)] if found else None


def _refuse_other_ranks(config: DictConfig, checkpoint: Path) -> None:
    """Raises UserError if another number of ranks wrote the checkpoint: each rank loads the shard with its number."""
    found, trainer = ranks_of(checkpoint / "actor"), config.trainer
    if found is not None and found != (ranks := trainer.n_gpus_per_node * trainer.nnodes):
        raise UserError(
            f"trainer.n_gpus_per_node x nnodes={ranks}",
            f"must be {found}, the number of ranks that wrote {checkpoint.name}: verl loads it on no other",
            "change it, or add trainer.experiment_name=NAME to start another run",
        )


def _refuse_other_data(config: DictConfig, checkpoint: Path) -> None:
    """Raises UserError if the training data has changed, because the checkpoint has a position in it."""
    path = checkpoint / LEDGER_FILE
    before = json.loads(path.read_text()).get("data") if path.is_file() else None  # None: from an earlier version
    if before is not None and before != data_fingerprint(config):
        raise UserError(
            f"data.train_files={config.data.train_files}",
            f"has changed since {checkpoint.name} was written",
            "restore the file, or add trainer.experiment_name=NAME to start another run",
        )


def _refuse_foreign(config: DictConfig, asked: Path) -> None:
    """Raises UserError for a checkpoint outside the run's folder, unless the user allows it."""
    run = Path(config.trainer.default_local_dir)
    if asked.resolve().is_relative_to(run.resolve()):
        return
    if not OmegaConf.select(config, "prefix_opd.checkpoint.allow_foreign", default=False):
        raise UserError(
            f"trainer.resume_from_path={asked}",
            f"is outside the run's folder {run}, so its origin is not known",
            "if you trust its source, add prefix_opd.checkpoint.allow_foreign=true",
        )


def superfluous(steps: Iterable[int], accuracy: Mapping[int, float], settings: CheckpointSettings) -> list[int]:
    """The steps whose checkpoints can be removed; of equal accuracies the earliest counts as the best.

    Args:
        steps: steps with a checkpoint.
        accuracy: step -> validation accuracy, for the validated steps.
    """
    newest_first = sorted(steps, reverse=True)
    if settings.keep_last is None:
        return []
    kept = set(newest_first[: settings.keep_last])
    judged = [step for step in reversed(newest_first) if step in accuracy]
    if settings.keep_best and judged:
        kept.add(max(judged, key=accuracy.__getitem__))
    return [step for step in reversed(newest_first) if step not in kept]


def set_aside(run: Path, step: int) -> Path | None:
    """Move whole checkpoints of later steps than ``step`` into another folder. Returns it; None where there are none.

    They belong to an abandoned run (``trainer.resume_mode=disable``, or an earlier ``resume_from_path``). The next
    start would otherwise resume from the newest of them. A damaged one is overwritten by this run.
    """
    later = [path for found, path in saved(run).items() if found > step and not damage(path)]
    if not later:
        return None
    place = run / SET_ASIDE / time.strftime("%Y%m%d-%H%M%S")
    place.mkdir(parents=True, exist_ok=True)
    write_whole(run / LATEST_FILE, str(step))
    for path in later:
        os.replace(path, place / path.name)
    logger.warning(
        "the run starts from step %d: checkpoints of later steps (%s) were moved to %s",
        step, ", ".join(path.name for path in later), place,
    )  # fmt: skip
    return place


def prune(run: Path, settings: CheckpointSettings, step: int) -> None:
    """Remove superfluous checkpoints. Each is renamed first, so that a kill leaves no partial checkpoint.

    Those of later steps than ``step``, the current one, belong to another run and are ignored.
    """
    checkpoints = {found: path for found, path in saved(run).items() if found <= step}
    for step in superfluous(checkpoints, accuracies(run), settings):
        os.replace(checkpoints[step], run / f"{_REMOVED}{checkpoints[step].name}")
    for rest in run.glob(f"{_REMOVED}*"):
        shutil.rmtree(rest, ignore_errors=True)
