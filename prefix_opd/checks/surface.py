"""Reject every setting that a run ignores or does not support: see `prefix_opd.checks.keys`."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.keys import CPU_CLOSED, FREE, NAMED_TEACHER, TEACHER
from prefix_opd.checks.reasons import REASONS
from prefix_opd.checks.rules import Rule
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import leaves

_OF_A_TEACHER = re.compile(r"^distillation\.teacher_models\.[^.]+\.")
MISSING = object()


def check_surface(config: DictConfig) -> None:
    """Compare a composed config with the defaults of its platform.

    A key of `FREE` must follow its rule. Any other key must keep its default, either as written or as resolved.
    Raises UserError for the first key that does not.
    """
    platform = config.get("platform")
    if problem := FREE["platform"](platform):
        raise UserError(f"platform={_shown(platform)}", problem)
    default, default_resolved = _defaults(platform)
    written = leaves(config)
    for key in default:
        if key not in written and not any(name.startswith(f"{key}.") for name in written):
            _refuse_absent(config, key, default[key])
    resolved = OmegaConf.to_container(config, resolve=True)
    # report the key that the user wrote before keys that interpolate it
    for key, raw in sorted(written.items(), key=lambda pair: "${" in str(pair[1])):
        value = _at(resolved, key)
        rule = rule_of(key, platform)
        if rule is not None:
            if problem := rule(value):
                raise UserError(f"{key}={_shown(value)}", problem)
        elif raw != default.get(like(key), MISSING) and value != _at(default_resolved, like(key)):
            _refuse_closed(key, value, default_resolved, platform)


@cache
def _defaults(platform: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config without experiment or layout: key -> value as written, and the resolved tree."""
    config = compose([f"platform={platform}"])
    return leaves(config), OmegaConf.to_container(config, resolve=True)


def rule_of(key: str, platform: str) -> Rule | None:
    """The rule of a key that may be set; None for a key that must keep its default."""
    named, key = like(key) != key, like(key)
    if named and (name := key.removeprefix(TEACHER)) in NAMED_TEACHER:
        return NAMED_TEACHER[name]
    if (platform == "cpu" and key in CPU_CLOSED) or (key in REASONS and key not in FREE):
        return None
    above = (key[: end.end()] for end in re.finditer(r"\.", key))  # with a dot at the end: all keys below it
    return next((FREE[name] for name in (key, *above) if name in FREE), None)


def like(key: str) -> str:
    """The key of ``teacher_model`` for a key of one of several teachers: the same rules and defaults hold."""
    return _OF_A_TEACHER.sub(TEACHER, key)


def _refuse_absent(config: DictConfig, key: str, default: Any) -> None:
    """Reject a value in place of a group, and the removal of a key. Raises UserError."""
    parts = key.split(".")
    for end in range(1, len(parts)):
        group = ".".join(parts[:end])
        node = OmegaConf.select(config, group)
        if not isinstance(node, DictConfig):
            raise UserError(f"{group}={_shown(node)}", "is a group of settings", "set its keys one by one")
    raise UserError(key, "was removed, but a run reads it", f"leave it at {_shown(default)}")


def _refuse_closed(key: str, value: Any, defaults: dict[str, Any], platform: str) -> None:
    what, key = f"{key}={_shown(value)}", like(key)
    parts = key.split(".")
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    reason = next((REASONS[name] for name in names if name in REASONS), "")
    if parts[-1] == "_target_":
        reason = "names the class that verl builds"
    elif platform == "cpu" and key in CPU_CLOSED:
        reason = "has one value on platform=cpu"
    if (default := _at(defaults, key)) is MISSING:
        raise UserError(what, reason or "is not a setting that a run reads", "leave it out")
    raise UserError(what, reason or "only the default is supported", f"leave it at {_shown(default)}")


def _shown(value: Any) -> str:
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _at(node: Any, key: str) -> Any:
    """The value of a dotted key in nested dicts; `MISSING` if absent."""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return MISSING
        node = node[part]
    return node
