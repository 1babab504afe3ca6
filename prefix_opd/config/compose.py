"""Compose the config of a run from an experiment and Hydra overrides; every error is one line."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from prefix_opd.base.errors import UserError
from prefix_opd.base.redaction import check_no_secrets
from prefix_opd.config import context
from prefix_opd.config.keys import leaves
from prefix_opd.config.overrides import CONFIG_MODULE, GROUPS, misplaced, nearest, options, parse, typed_keys
from prefix_opd.config.plugins import KEY as PLUGINS_KEY
from prefix_opd.config.plugins import import_plugins
from prefix_opd.config.settings import CHOICES
from prefix_opd.config.teachers import fill_in_teachers
from prefix_opd.miniature import paths

paths.register_resolver()
context.register_resolver()

CONFIG_NAME = "prefix_opd"


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of a run. Later parts take precedence: verl, this package, the experiment, the overrides.

    Raises:
        UserError: an override that does not parse, an unknown key (with the nearest right one), a missing plugin.
    """
    parsed = [parse(override) for override in overrides]
    given = _with_plugins(parsed)
    GlobalHydra.instance().clear()
    try:
        # name the run after its experiment, so that two experiments have separate folders
        named = [one.removeprefix("experiment=") for one in given if one.startswith("experiment=")]
        name = [f"trainer.experiment_name={named[-1].replace('/', '_')}"] if named else []
        config = _compose([*name, *given])
        check_no_secrets(config)  # resolves every ${...}
        fill_in_teachers(config, typed_keys(parsed))
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        raise _one_line(error, parsed) from None
    return config


def _compose(overrides: Sequence[str]) -> DictConfig:
    with initialize_config_module(CONFIG_MODULE, version_base=None):
        return hydra_compose(CONFIG_NAME, overrides=[_without_importing_verl(), *overrides])


def _without_importing_verl() -> str:
    # pkg://verl.trainer.config would make Hydra import verl, which takes about ten seconds.
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("verl", "is not installed", "run `bash scripts/setup.sh`, or pip install -r requirements.txt")
    folder = Path(spec.submodule_search_locations[0]) / "trainer" / "config"
    return f"hydra.searchpath=[file://{folder}]"


def _with_plugins(overrides: Sequence[Override]) -> list[str]:
    """Import the plugins that are named; a setting that their classes declare is then overridden as ours are."""
    plugins = [override for override in overrides if override.key_or_group == PLUGINS_KEY]
    for override in plugins:
        import_plugins(override.value())
    declared = {f"prefix_opd.{group}.{key}" for group, registry in CHOICES.items() for key in registry.fields()}
    # ++ adds a key that no YAML has
    return [
        f"++{one.input_line}"
        if plugins and one.key_or_group in declared and one.type is OverrideType.CHANGE
        else str(one.input_line)
        for one in overrides
    ]


def _one_line(error: Exception, overrides: Sequence[Override]) -> UserError:
    cause: BaseException | None = error
    while cause is not None:  # OmegaConf wraps what a resolver of ours raises
        if isinstance(cause, UserError):
            return cause
        cause = cause.__context__
    text = str(error)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return UserError(f"{mark.name}, line {mark.line + 1}", f"is not valid YAML: {error.problem}")
    if missing := re.search(rf"In '((?:{'|'.join(GROUPS)})/[^']+)': Could not (?:load|find) '([^']+)'", text):
        kind, _, name = missing.group(2).partition("/")
        fix = "an experiment includes a base, such as tiny/base"
        if kind != "experiment":
            fix = nearest(name, options(kind)) if kind in GROUPS else "name a file of verl's config"
        return UserError(missing.group(1), f"its defaults name {missing.group(2)}, which does not exist", fix)
    default = _compose([str(one.input_line) for one in overrides if one.key_or_group == "experiment"])
    if (wrong := misplaced(overrides, default)) is not None:
        return wrong
    if key := re.search(r"Could not append to config. An item is already at '([^']+)'", text):
        return UserError(f"+{key.group(1)}", "is a key of the config already", f"write {key.group(1)}=VALUE, without +")
    if key := re.search(r"Could not override '([^']+)'", text):
        known = leaves(default)
        close = difflib.get_close_matches(key.group(1), known, n=1, cutoff=0.5)
        fix = f"did you mean {close[0]}? (a new key of verl's takes a + in front)" if close else "see verl's config"
        return UserError(key.group(1), "is not a key of the config", fix)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return UserError(error.full_key, text.splitlines()[0], "name a key of the config in ${...}")
    if group := re.search(r"Could not find '([^']+)'", text):
        return UserError(group.group(1).replace("/", "="), "is not the name of a config", "leave it at its default")
    return UserError("config", text.splitlines()[0])
