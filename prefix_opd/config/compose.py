"""Compose the config of a run from an experiment and Hydra overrides; every error is one line."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prefix_opd.base.errors import UserError
from prefix_opd.base.redaction import check_no_secrets
from prefix_opd.config import context
from prefix_opd.config.plugins import KEY as PLUGINS_KEY
from prefix_opd.config.plugins import import_plugins
from prefix_opd.config.settings import CHOICES
from prefix_opd.miniature import paths

paths.register_resolver()
context.register_resolver()

CONFIG_MODULE = "recipe.prefix_opd.config"
CONFIG_NAME = "prefix_opd"


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of a run. Later parts take precedence: verl, this package, the experiment, the overrides.

    Args:
        overrides: as on Hydra's command line, e.g. ``experiment=tiny/schedule prefix_opd.schedule.increment=8``.

    Raises:
        UserError: unknown experiment, unknown key (with the nearest right one), an override that does not parse, or a
            plugin that cannot be imported.
    """
    overrides = _with_plugins(overrides)
    GlobalHydra.instance().clear()
    given = [_without_importing_verl(), *_name(overrides), *overrides]
    with initialize_config_module(CONFIG_MODULE, version_base=None):
        try:
            config = hydra_compose(CONFIG_NAME, overrides=given)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # the last of a group set to null
            raise _one_line(error, overrides) from None
    _check_interpolations(config)
    check_no_secrets(config)
    return config


def _check_interpolations(config: DictConfig) -> None:
    """Reject a ``${...}`` that cannot be resolved; the first reader would raise a traceback."""
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(error.full_key or "config", str(error).splitlines()[0]) from None


def experiments() -> list[str]:
    """Every shipped experiment, as ``<pair>/<kind>``."""
    root = Path(str(resources.files(CONFIG_MODULE))) / "experiment"
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if not Path(name).name.startswith("base"))


def layouts() -> list[str]:
    """Every shipped layout."""
    return sorted(path.stem for path in (Path(str(resources.files(CONFIG_MODULE))) / "layout").glob("*.yaml"))


def missing_keys(config: DictConfig) -> list[str]:
    """Keys whose value is still ``???``."""
    return sorted(OmegaConf.missing_keys(config))


def _without_importing_verl() -> str:
    # pkg://verl.trainer.config would make Hydra import verl, which takes about ten seconds.
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("verl", "is not installed", "run `bash scripts/setup.sh`, or pip install -r requirements.txt")
    folder = Path(spec.submodule_search_locations[0]) / "trainer" / "config"
    return f"hydra.searchpath=[file://{folder}]"


def _name(overrides: Sequence[str]) -> list[str]:
    # name the run after its experiment, so that two experiments have separate folders
    found = [override.removeprefix("experiment=") for override in overrides if override.startswith("experiment=")]
    return [f"trainer.experiment_name={found[-1].replace('/', '_')}"] if found else []


def _with_plugins(overrides: Sequence[str]) -> list[str]:
    """Import the plugins that are named; a setting that their classes declare is then overridden as ours are."""
    found = [_parsed(override) for override in overrides]
    plugins = [override for override in found if override.key_or_group == PLUGINS_KEY]
    for override in plugins:
        import_plugins(override.value())
    if not plugins:
        return list(overrides)
    declared = {f"prefix_opd.{group}.{key}" for group, registry in CHOICES.items() for key in registry.fields()}
    # ++ adds a key that no YAML has
    return [
        f"++{one.input_line}" if one.key_or_group in declared and one.type is OverrideType.CHANGE else one.input_line
        for one in found
    ]


def _parsed(override: str) -> Override:
    try:
        return OverridesParser.create().parse_overrides([override])[0]
    except OverrideParseException:
        raise UserError(
            override,
            "is not a Hydra override",
            """write key=value, and quote what is no plain word, e.g. 'prefix_opd.prompt.ending="<think>"'""",
        ) from None


def _one_line(error: Exception, overrides: Sequence[str]) -> UserError:
    text = str(error)
    experiment = re.search(r"experiment/([\w./-]+)", text)
    if experiment and ("Could not find" in text or "Could not load" in text):
        name = experiment.group(1).rstrip(".'")
        return UserError(f"experiment={name}", "does not exist", _nearest(name, experiments()))
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return UserError(key.group(1), "is not a key of the config", _nearest_key(key.group(1), overrides))
    group = re.search(r"Could not find '([^']+)'", text)
    if group:
        return UserError(group.group(1), "is no config of that name")
    return UserError("config", text.splitlines()[0])


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}"


def _nearest_key(key: str, overrides: Sequence[str]) -> str:
    kept = [override for override in overrides if override.lstrip("+~").startswith("experiment=")]
    try:
        keys = _leaves(hydra_compose(CONFIG_NAME, overrides=[_without_importing_verl(), *kept]))
    except (HydraException, OmegaConfBaseException):
        return "see `prefix-opd train --help`"
    nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}? (a new key of verl's takes a + in front)" if nearest else "see verl's config"


def _leaves(node: DictConfig, prefix: str = "") -> list[str]:
    names = []
    for key in node:
        name = f"{prefix}{key!s}"
        names.append(name)
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            names += _leaves(child, f"{name}.")
    return names
