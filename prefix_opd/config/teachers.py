"""The teachers of a run: one for all training rows, or several by data source.

Several teachers are given in verl's own way: entries of ``distillation.teacher_models`` beside ``teacher_model``, each
with the ``data_source`` of its rows as ``key``. verl then drops ``teacher_model``
(verl/workers/config/distillation.py); its engine settings are the defaults of the others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import TEACHER_KEY

NODE = "distillation.teacher_models"
PLACEMENT_KEY = "prefix_opd.teacher.placement"
URL_KEY = "prefix_opd.teacher.url"
ONE = "teacher_model"
"""verl's name for the only teacher of a run."""
PRETENDED = "ray_kwargs.ray_init.num_gpus"
ROUTED_BY = "data_source"
"""verl's column that chooses the teacher (``distillation.teacher_key``)."""


@dataclass(frozen=True)
class Teacher:
    """An entry of ``distillation.teacher_models``."""

    name: str
    source: str
    """The ``data_source`` of the rows that it scores; empty: all rows."""
    path: str
    engines: int
    gpus: int
    """Of all its engines."""

    @property
    def key(self) -> str:
        return f"{NODE}.{self.name}.model_path"

    @property
    def inference_key(self) -> str:
        return f"{NODE}.{self.name}.inference"


def teachers(config: DictConfig) -> list[Teacher]:
    """The teachers of a run; none where a stored config names none. A teacher elsewhere has no GPUs."""
    nodes = OmegaConf.select(config, NODE)
    if nodes is None:
        return []
    elsewhere = bool(OmegaConf.select(config, URL_KEY))
    pool = 0 if elsewhere else int(config.distillation.get("n_gpus_per_node", 1)) * config.distillation.get("nnodes", 1)
    found = []
    for name in _named(nodes) or [ONE]:
        node, only = nodes[name], name == ONE
        parallel = int(OmegaConf.select(node, "inference.tensor_model_parallel_size", default=1))
        engines = max(1, pool // parallel) if only else int(node.num_replicas)
        gpus = pool if only else engines * parallel
        found.append(Teacher(name, "" if only else str(node.key), str(node.get("model_path") or ""), engines, gpus))
    return found


def check_one_teacher(config: DictConfig) -> None:
    """Reject several teachers where one is measured. Raises UserError."""
    if len(theirs := teachers(config)) > 1:
        told = ", ".join(f"{NODE}.{one.name}" for one in theirs)
        raise UserError(told, "are several teachers, and one is measured", f"leave them out and set {NODE}.{ONE}")


def _named(nodes: DictConfig) -> list[str]:
    return [str(name) for name in nodes if name != ONE]


def fill_in_teachers(config: DictConfig, typed: Collection[str] = ()) -> None:
    """Give each of several teachers the engine settings of ``teacher_model``, and its number of engines.

    Without ``num_replicas`` the GPUs of the teachers are divided equally. On a CPU each teacher has one pretended GPU.
    Values that `prefix_opd.checks.surface` rejects stay as they are. Raises UserError for what would not be read, and
    for an entry without a key of its own or without a model.

    Args:
        typed: the keys that the user sets. An experiment may set the path of ``teacher_model``, which is not read.
    """
    nodes = OmegaConf.select(config, NODE)
    names = _named(nodes) if isinstance(nodes, DictConfig) and isinstance(nodes.get(ONE), DictConfig) else []
    if not names:
        return
    if len(names) == 1:
        rule = "is the only teacher beside teacher_model, which verl then drops"
        raise UserError(f"{NODE}.{names[0]}", rule, f"name every teacher, or set {NODE}.{ONE}.model_path")
    if url := OmegaConf.select(config, URL_KEY):
        rule = f"is one teacher of all rows, and {NODE} names {len(names)} ({', '.join(names)})"
        raise UserError(f"{URL_KEY}={url}", rule, "leave out the one or the others")
    if TEACHER_KEY in typed:
        rule = f"is not read beside {NODE}.{f', {NODE}.'.join(names)}"
        raise UserError(TEACHER_KEY, rule, f"set {NODE}.{names[0]}.model_path, or that of another of them")
    keys: dict[str, str] = {}
    with open_dict(config):
        for name in names:
            _fill_in(nodes, name, keys)
        given = (config.distillation.n_gpus_per_node, config.distillation.nnodes)
        pool, shared = _whole(given[0]) * _whole(given[1]), OmegaConf.select(config, PLACEMENT_KEY) == "shared"
        if config.get("platform") == "cpu" and not shared and given == (1, 1):
            pool = config.distillation.n_gpus_per_node = len(names)
            trainers = _whole(OmegaConf.select(config, "trainer.n_gpus_per_node"))
            if OmegaConf.select(config, PRETENDED) == trainers + 1:  # another number is the user's own
                OmegaConf.update(config, PRETENDED, trainers + len(names))
        for name in names:
            if nodes[name].num_replicas is None:
                parallel = OmegaConf.select(nodes[name], "inference.tensor_model_parallel_size")
                nodes[name].num_replicas = max(1, pool // len(names) // _whole(parallel))


def _fill_in(nodes: DictConfig, name: str, keys: dict[str, str]) -> None:
    """Complete one entry by ``teacher_model``. ``keys``: key -> name of the entries before it."""
    given = nodes[name]
    for field, example in (("key", "a data_source"), ("model_path", "a folder or a hub id")):
        value = given.get(field) if isinstance(given, DictConfig) else None
        if not isinstance(value, str) or not value:
            told = "is not set" if value is None else f"is {value!r}, no text"
            raise UserError(f"{NODE}.{name}.{field}", told, f"add +{NODE}.{name}.{field}=({example})")
    if other := keys.get(given.key):
        raise UserError(
            f"{NODE}.{name}.key={given.key}", f"is also the key of {other}", "name one teacher for each key"
        )
    keys[given.key] = name
    nodes[name] = OmegaConf.merge(nodes[ONE], {"num_replicas": None}, given)


def _whole(value: Any) -> int:
    return value if type(value) is int and value > 0 else 1
