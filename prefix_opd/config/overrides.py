"""Hydra's overrides: parsed one by one, and what is wrong with one that Hydra does not take."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import leaves

CONFIG_MODULE = "recipe.prefix_opd.config"
OURS = "prefix_opd"
"""The node of this package's settings."""
GROUPS = ("experiment", "layout", "platform")
"""The groups that a user chooses a file of. verl's own groups have one file that a run supports."""


def options(group: str) -> list[str]:
    """The shipped files of a group, e.g. every experiment as ``<pair>/<kind>``."""
    root = Path(str(resources.files(CONFIG_MODULE))) / group
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if not Path(name).name.startswith("base"))


def parse(override: str) -> Override:
    """One override of the command line.

    Raises:
        UserError: it does not parse, holds several values, is of Hydra itself, or chooses a file that does not exist.
    """
    try:
        override.encode()
        (found,) = OverridesParser.create().parse_overrides([override])
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8; no file of a run could hold them
        raise UserError(ascii(override), "is not text in UTF-8", "type it in a terminal with a UTF-8 locale") from None
    except (OverrideParseException, HydraException):
        fix = """write key=value, and quote what is no plain word, e.g. 'prefix_opd.prompt.ending="<think>"'"""
        raise UserError(override, "is not a Hydra override", fix) from None
    key = found.key_or_group
    if not key:
        raise UserError(override, "names no key", "write key=value")
    if found.is_sweep_override():
        raise UserError(override, "holds several values", "start one run for each; a list is written as [a,b]")
    if key.partition(".")[0].partition("/")[0] == "hydra":
        raise UserError(override, "is a setting of Hydra, which a run does not use", "set trainer.default_local_dir")
    if found.package is not None:
        raise UserError(override, "moves a part of the config", "leave out the @ and what follows it")
    if key in GROUPS and not found.is_delete():
        _check_choice(found)
    return found


def _check_choice(override: Override) -> None:
    group, name = override.key_or_group, override.value()
    if override.is_add() or override.is_force_add():
        raise UserError(override.input_line, f"adds a second {group}", f"leave out the {override.input_line[0]}")
    if "${" in str(name):
        raise UserError(override.input_line, f"names no {group}", "interpolation works only in the values of keys")
    if not isinstance(name, str):
        raise UserError(override.input_line, f"must be the name of one {group}", nearest(str(name), options(group)))
    if name.strip("/").removesuffix(".yaml") not in options(group):
        raise UserError(f"{group}={name}", "does not exist", nearest(name, options(group)))


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint: the most similar of many known names, or all of them."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.4) if len(known) > 5 else []
    return f"did you mean {found[0]}?" if found else f"known: {', '.join(known)}"


def typed_keys(overrides: Sequence[Override]) -> set[str]:
    """The keys that the overrides set, those inside a group's value included."""
    return {key for one in overrides if not one.is_delete() for key in leaves(one.value(), one.key_or_group)}


def misplaced(overrides: Sequence[Override], defaults: DictConfig) -> UserError | None:
    """The first override whose value has the wrong kind: a value for a group of settings, or a group for a value."""
    for override in overrides:
        key = override.key_or_group.replace("/", ".")
        default: Any = OmegaConf.select(defaults, key, default=None)
        if override.key_or_group in GROUPS:
            continue
        if override.is_delete():
            if isinstance(default, DictConfig):
                return UserError(override.input_line, "removes settings that a run reads", "leave it out")
            continue
        value = override.value()
        is_verls_group = "." not in key and key != OURS  # Hydra takes a dict for the choice of a file
        if isinstance(default, DictConfig) and (not isinstance(value, Mapping) or is_verls_group):
            return UserError(override.input_line, "is a group of settings", "set its keys one by one")
        if isinstance(value, Mapping) and default is not None and not isinstance(default, DictConfig):
            return UserError(override.input_line, "is not a group of settings", f"its default is {default}")
    return None
