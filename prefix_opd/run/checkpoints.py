"""Checkpoints that are whole or do not count, and which of them stay.

verl writes the files of ``global_step_N`` one after the other and names the step in
``latest_checkpointed_iteration.txt`` last. A kill, a full disk or a careless hand can leave any of it in halves, and
verl would find out in the middle of loading. So when all is written, and has reached the disk, a manifest is: names,
sizes, and a checksum of blocks of every file. A checkpoint with a manifest that fits is whole; the newest whole one is
gone on from.
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
"""In a checkpoint: the ledger, the numbers of its step, the state of probe and schedule, hashes of its data."""
LATEST_FILE = "latest_checkpointed_iteration.txt"
"""verl's own."""
BLOCK_BYTES = 1 << 20
BLOCKS = 16
"""A checksum covers so many blocks, evenly spread from the first bytes of a file to its last: all of a small file, and
of one of 100 GB what is cheap."""
ENDS = 2
"""As many as the first manifests covered, which name no number."""
_STEP = re.compile(r"^global_step_(\d+)$")
_REMOVED = ".removed_"
SET_ASIDE = "set_aside"
"""Where checkpoints go that lie ahead of the step from which a run was told to begin."""


def write_manifest(checkpoint: Path) -> None:
    """Declare a checkpoint whole: called when everything in it is written.

    verl leaves its files in the page cache; a manifest that reached the disk before them would vouch for holes.
    """
    listed = _files(checkpoint)
    for path in [*listed, *{path.parent for path in listed}, checkpoint.parent]:
        onto_disk(path)
    files = {str(path.relative_to(checkpoint)): [*_signature(path, BLOCKS), BLOCKS] for path in listed}
    write_whole(checkpoint / MANIFEST_FILE, json.dumps(files, indent=1))


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; none if it is whole.

    One without a manifest (verl's own, or of an older version) is whole if its model is there and each of its files
    can be opened.
    """
    manifest = checkpoint / MANIFEST_FILE
    if not manifest.exists():
        return _damage_of_unlisted(checkpoint)
    try:
        listed = json.loads(manifest.read_text())
    except ValueError:
        return f"{MANIFEST_FILE} is no JSON"
    for name, (size, checksum, *blocks) in listed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
        if _signature(path, *(blocks or [ENDS]))[1] != checksum:
            return f"{name} has other content than was written"
    return None


def _damage_of_unlisted(checkpoint: Path) -> str | None:
    if not any(checkpoint.glob("actor/model_*")) and not any(checkpoint.glob("actor/**/*.distcp")):
        return "there is no model in it"
    broken = (path for path in _files(checkpoint) if path.suffix == ".pt" and not zipfile.is_zipfile(path))
    return next((f"{path.relative_to(checkpoint)} is cut short" for path in broken), None)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)


def _signature(path: Path, blocks: int) -> list[int]:
    """Size, and CRC-32 of ``blocks`` blocks, the first and the last of the file among them; none overlap."""
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
    """The checkpoints that a run finished writing, by step: those with a manifest, and those up to verl's latest."""
    found = {int(match[1]): path for path in run.glob("global_step_*") if (match := _STEP.match(path.name))}
    named = _named_by_verl(run)
    return {step: found[step] for step in sorted(found) if step <= named or (found[step] / MANIFEST_FILE).exists()}


def _named_by_verl(run: Path) -> int:
    try:
        return int((run / LATEST_FILE).read_text())
    except (FileNotFoundError, ValueError):  # never written, or cut short while verl wrote it anew
        return 0


def choose(run: Path, step: int | None, name: str = "") -> tuple[int, Path]:
    """The checkpoint of a step, the last one by default.

    Args:
        name: the run as the user typed it; its folder by default.

    Raises:
        UserError: there is none.
    """
    found = saved(run)
    if not found:
        raise UserError(name or str(run), "has no checkpoint", "set trainer.save_freq above 0 and train")
    step = step or max(found)
    if step not in found:
        raise UserError(f"--step={step}", f"there is no such checkpoint; known: {', '.join(map(str, found))}")
    return step, found[step]


def newest_whole(run: Path) -> Path | None:
    """The checkpoint to go on from; none for a run that has saved none. Warns of damaged ones that it passes over.

    Raises:
        UserError: there are checkpoints, and all are damaged: to begin anew would throw the run away.
    """
    checkpoints = saved(run)
    problem = ""
    for step in sorted(checkpoints, reverse=True):
        problem = damage(checkpoints[step]) or ""
        if not problem:
            return checkpoints[step]
        logger.warning("%s is damaged (%s): going on from the one before it", checkpoints[step], problem)
    if checkpoints:
        raise UserError(
            f"trainer.default_local_dir={run}",
            f"none of its {len(checkpoints)} checkpoints is whole (the first: {problem})",
            "restore one, or remove the folder to begin anew",
        )
    return None


def settle_resume(config: DictConfig) -> Path | None:
    """Name the checkpoint that verl shall load, in place of its own "latest". Returns it; none begins anew.

    Raises:
        UserError: the checkpoint that was asked for is damaged or another run's, all are damaged, or the training
            data is not what it was.
    """
    trainer = config.trainer
    if trainer.resume_mode == "resume_path":
        asked = Path(trainer.resume_from_path)
        _refuse_foreign(config, asked)
        if problem := damage(asked):
            raise UserError(f"trainer.resume_from_path={asked}", f"is damaged: {problem}", "name another checkpoint")
        _refuse_other_data(config, asked)
        return asked
    if trainer.resume_mode != "auto":
        return None
    found = newest_whole(Path(trainer.default_local_dir))
    if found is not None:
        _refuse_other_data(config, found)
        trainer.resume_mode = "resume_path"
        trainer.resume_from_path = str(found)
    return found


def data_fingerprint(config: DictConfig) -> list[str]:
    """SHA-256 of each training file, in their order: kept with a checkpoint."""
    named = config.data.train_files
    files = [named] if isinstance(named, str) else list(named)
    return [sha256_of(Path(file).expanduser()) for file in files]


def _refuse_other_data(config: DictConfig, checkpoint: Path) -> None:
    """A file that was replaced under a run would go on from a position in other data. Raises UserError."""
    path = checkpoint / LEDGER_FILE
    before = json.loads(path.read_text()).get("data") if path.is_file() else None  # none: of an earlier version
    if before is not None and before != data_fingerprint(config):
        raise UserError(
            f"data.train_files={config.data.train_files}",
            f"has other content than when {checkpoint.name} was written",
            "restore the file, or add trainer.experiment_name=NAME to begin another run",
        )


def _refuse_foreign(config: DictConfig, asked: Path) -> None:
    """Our guard loads FSDP checkpoints as data (engine/safe_loading.py). Those of other engines may run code."""
    run = Path(config.trainer.default_local_dir)
    if asked.resolve().is_relative_to(run.resolve()):
        return
    if not OmegaConf.select(config, "prefix_opd.checkpoint.allow_foreign", default=False):
        raise UserError(
            f"trainer.resume_from_path={asked}",
            f"is outside the run's folder {run}, and loading a checkpoint can run code in it",
            "if you trust where it is from, add prefix_opd.checkpoint.allow_foreign=true",
        )


def superfluous(steps: Iterable[int], accuracy: Mapping[int, float], settings: CheckpointSettings) -> list[int]:
    """The steps whose checkpoints may go.

    Args:
        steps: those with a checkpoint.
        accuracy: validation accuracy by step, as far as it is known.
        settings: how many of the newest stay, and whether the best does. Of equals the earliest is the best.
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
    """Move whole checkpoints of later steps out of the way of a run that begins from this one; none if there are none.

    They belong to a run that was given up (``trainer.resume_mode=disable``, or an earlier ``resume_from_path``): left
    where they are, the next start would take the newest of them for this run's. A damaged one is overwritten in time.
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
        "the run begins from step %d: checkpoints of later steps (%s) are kept in %s",
        step, ", ".join(path.name for path in later), place,
    )  # fmt: skip
    return place


def prune(run: Path, settings: CheckpointSettings, step: int) -> None:
    """Remove what need not stay. Each goes in one move, so that a kill leaves no half checkpoint behind.

    Args:
        step: the present one. What lies ahead of it is another run's: neither among the newest nor removed.
    """
    checkpoints = {found: path for found, path in saved(run).items() if found <= step}
    for step in superfluous(checkpoints, accuracies(run), settings):
        os.replace(checkpoints[step], run / f"{_REMOVED}{checkpoints[step].name}")
    for rest in run.glob(f"{_REMOVED}*"):
        shutil.rmtree(rest, ignore_errors=True)
