"""The model to evaluate: a Hugging Face folder, a hub id, a LoRA adapter's folder, or a run's checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_object, sha256_of, whole_folder
from prefix_opd.checks.lora import ADAPTER_WEIGHTS, base_and_settings, check_adapter
from prefix_opd.checks.together import check_plain
from prefix_opd.config.decoder import check_architecture
from prefix_opd.config.lora import Lora
from prefix_opd.config.models import ADAPTER_FILE, Model
from prefix_opd.run.adapter import merge
from prefix_opd.run.checkpoints import choose
from prefix_opd.run.export import export_checkpoint
from prefix_opd.run.folder import CONFIG_FILE, METRICS_FILE, read_config
from prefix_opd.run.ledger import Spent, with_costs
from prefix_opd.run.log import read_metrics

_TRUST = "add `-- actor_rollout_ref.model.trust_remote_code=true`"
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16
_SHAPE = ("model_type", "architectures", "hidden_size", "num_hidden_layers", "vocab_size")


@dataclass(frozen=True)
class Target:
    name: str
    model: Model
    out: Path
    run: Path | None = None
    run_config: DictConfig | None = None
    step: int | None = None
    flop: float | None = None
    """Training FLOP up to the checkpoint, by the paper's accounting."""
    hours: float | None = None
    """Hours of training steps up to the checkpoint, without validation and start-up."""
    lora: Lora | None = None
    """The adapter that was trained, if all weights were not."""

    @property
    def fingerprint(self) -> str:
        """Identifies the model: the commit of a hub id, or a hash of a folder's small files and weight samples."""
        folder = self.model.folder
        if not self.model.local.is_dir():
            return folder.name[:16]
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for i in range(_SAMPLES):  # all of a small file, or 4 MiB evenly spread over a large one
                    file.seek(max(0, size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()[:16]


def is_run(path: Path) -> bool:
    return (path / CONFIG_FILE).is_file() and (path / METRICS_FILE).is_file()


def check_target(name: str, step: int | None) -> None:
    """The cheap checks, before a slow export."""
    path = Path(name).expanduser()
    if is_run(path):
        config = read_config(path)
        _, checkpoint = choose(path, step, name)
        _check_same_architecture(checkpoint / "actor" / "huggingface", config)
        return
    if step is not None:
        raise UserError(f"--step={step}", f"{name} is not a run's folder", "leave --step out, or name a run")
    if (path / ADAPTER_FILE).is_file():
        return
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(name, f"is neither a model (no config.json) nor a run (no {CONFIG_FILE} and {METRICS_FILE})")
    check_model(Model("model", name))


def check_model(model: Model) -> None:
    """Raises UserError unless it is a language model with plain weights that are not pickles."""
    check_architecture(model.path, model.config)
    model.check_weights()
    check_plain(model)
    _ = model.shape


def open_target(name: str, step: int | None, trust_remote_code: bool = False) -> Target:
    """The model, ready to load. A run's checkpoint is exported into the run's folder first, if necessary, and an
    adapter is merged into its base in a folder beside it.

    Args:
        trust_remote_code: the user's choice. The run's config does not count, because it may come from elsewhere.
    """
    path = Path(name).expanduser()
    if not is_run(path):
        title = path.resolve().name if path.is_dir() else name.replace("/", "--")
        lora = None
        if (path / ADAPTER_FILE).is_file():
            name, lora = _merged(path, trust_remote_code)
        model = Model("model", name, trust_remote_code)
        model.check_own_code(_TRUST)
        return Target(title, model, Path("evaluations") / title, lora=lora)
    config = read_config(path)
    step, _ = choose(path, step, name)
    exported = path / f"hf_step_{step}"
    if not exported.exists():
        export_checkpoint(path, step, trusted=trust_remote_code, trust=_TRUST)
    model = Model("model", str(exported), trust_remote_code)
    model.check_own_code(_TRUST)
    _check_same_architecture(exported, config)
    check_model(model)
    spent = Spent()
    for line, so_far in with_costs(read_metrics(path)):
        spent = so_far if line["step"] <= step else spent
    flop, hours = spent.paper_flops or None, spent.seconds / 3600 or None
    title = str(config.trainer.experiment_name)
    place = path / "evaluation" / f"step_{step}"
    return Target(title, model, place, path, config, step, flop, hours, Lora.of(config))


def _merged(path: Path, trust_remote_code: bool) -> tuple[str, Lora]:
    """The folder of an adapter merged into its base, named after the adapter's content; and the adapter's settings."""
    base, lora = base_and_settings("adapter", str(path))
    if not base:
        raise UserError(str(path), "names no base", f"add base_model_name_or_path to its {ADAPTER_FILE}")
    model = Model("model", base, trust_remote_code)
    model.check_own_code(_TRUST)
    check_model(model)
    check_adapter("adapter", lora, model)
    folder = path.with_name(f"{path.resolve().name}_merged_{sha256_of(path / ADAPTER_WEIGHTS)[:8]}")
    if not folder.exists():
        with whole_folder(folder) as draft:
            merge(model, path, draft)
    return str(folder), lora


def _check_same_architecture(checkpoint: Path, config: DictConfig) -> None:
    student = Path(str(config.actor_rollout_ref.model.path)).expanduser() / "config.json"
    if not student.is_file() or not (checkpoint / "config.json").is_file():
        return
    configs = (read_object(path) for path in (checkpoint / "config.json", student))
    ours, theirs = ({**config, **(config.get("text_config") or {})} for config in configs)
    for name in _SHAPE:
        if ours.get(name) != theirs.get(name):
            raise UserError(
                str(checkpoint),
                f"is a checkpoint of another architecture ({name}={ours.get(name)}, the run's student has "
                f"{theirs.get(name)})",
                "name the run that wrote it",
            )
