"""The page ``docs/settings.md``, made from the docstrings of the settings.

python tests/settings_page.py > docs/settings.md
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prefix_opd.config.settings import Settings

Row = tuple[str, str, str, str]
"""Key, default, accepted values, meaning."""

HEAD = """# Settings

Every setting of the config node `prefix_opd`. Set one on the command line (`prefix_opd.schedule.increment=8`) or in an
experiment's YAML (`recipe/prefix_opd/config/experiment/`). All other keys of a config are verl's.

The defaults below are those of the classes. A platform or an experiment may set others (`recipe/prefix_opd/config/`).

This page is written by `python tests/settings_page.py > docs/settings.md`.
"""
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
TYPES = {int: "integer", float: "number", bool: "true, false", str: "text", type(None): "null"}
FOLLOWED = {"prefix_opd.loss.name": "distillation.distillation_loss.loss_mode"}
"""A key that only repeats another -> the one to set."""
LAUNCHER = "Set by the launcher."
"""Meaning of a field without a docstring: only the fields that the launcher fills in have none."""


def page() -> str:
    """The whole page as Markdown: one table for each group of settings, one row for each setting."""
    lines = [HEAD]
    for key, text, found in groups(Settings, "prefix_opd"):
        lines += [
            f"## `{key}`\n\n{text.replace('``', '`')}\n",
            "| key | default | values | meaning |",
            "|---|---|---|---|",
        ]
        for setting, default, values, meaning in found:
            cells = (f"`{setting}`", f"`{default}`", values, meaning.replace("``", "`"))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def docstrings(model: type) -> dict[str, str]:
    """The string under each field of a class and of its bases, by field name, as one line."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if part.__module__.partition(".")[0] in ("builtins", "pydantic"):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    """The settings of one class, without those of nested groups."""
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        if not _is_group(name, field, texts):
            yield f"{prefix}.{name}", _default(field), _values(field), texts.get(name, LAUNCHER)


def choice_rows(choices: Mapping[str, type[BaseModel]], default: str, prefix: str) -> Iterator[Row]:
    """The settings of a group that names a class: the name, then each setting with the classes that read it."""
    key, text = f"{prefix}.name", "The class, see the list above."
    yield key, default, ", ".join(choices), f"{text} Set `{FOLLOWED[key]}`." if key in FOLLOWED else text
    for setting in dict.fromkeys(name for model in choices.values() for name in model.model_fields):
        readers = {name: model for name, model in choices.items() if setting in model.model_fields}
        model = next(iter(readers.values()))
        field, text = model.model_fields[setting], docstrings(model)[setting]
        whose = "" if len(readers) == len(choices) else f" Read by: {', '.join(readers)}."
        yield f"{prefix}.{setting}", _default(field), _values(field), text + whose


def groups(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, Iterable[Row]]]:
    """Key, introduction and rows of a class and of every group inside it."""
    if found := list(rows(model, prefix)):
        yield prefix, _first_paragraph(model), found
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}"
        if choices := _choices(field):
            default = next(known for known, cls in choices.items() if cls is type(field.default))
            yield key, f"{texts[name]}\n\n{_listed(choices)}", choice_rows(choices, default, key)
        elif _is_group(name, field, texts):
            yield from groups(_models(field.annotation)[0], key)


def _choices(field: FieldInfo) -> Mapping[str, type[BaseModel]] | None:
    """The registry that builds a field's value, where its class is chosen by name."""
    owners = (getattr(getattr(part, "func", None), "__self__", None) for part in field.metadata)
    return next((owner for owner in owners if isinstance(owner, Mapping)), None)


def _is_group(name: str, field: FieldInfo, texts: Mapping[str, str]) -> bool:
    """Whether a field is a table of its own. A record with a docstring of its own, a watcher, is one row."""
    return _choices(field) is not None or (bool(_models(field.annotation)) and name not in texts)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _default(field: FieldInfo) -> str:
    return _plain(field.get_default(call_default_factory=True))


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"{{{', '.join(f'{name}: {_plain(part)}' for name, part in value.model_dump().items())}}}"
    return value if isinstance(value, str) else json.dumps(value)


def _values(field: FieldInfo) -> str:
    if models := _models(field.annotation):
        return "; ".join(f"{name}: {_values(inner)}" for name, inner in models[0].model_fields.items())
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: Any = ()) -> str:
    """What a type accepts, in words: ``integer ≥ 1``, ``null``, ``warn, skip, stop``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], inner[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in inner)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is tuple:
        parts = [_type(part) for part in inner if part is not ...]
        return f"list of {parts[0]}" if ... in inner else f"[{', '.join(parts)}]"
    bounds = [bound for part in metadata for bound in getattr(part, "metadata", [part])]
    limits = [f"{sign} {getattr(b, name)}" for b in bounds for name, sign in BOUNDS.items() if hasattr(b, name)]
    return f"{TYPES.get(annotation, str(annotation))} {', '.join(limits)}".strip()


def _listed(choices: Mapping[str, type[BaseModel]]) -> str:
    """One line for each class, with all its names."""
    names: dict[type[BaseModel], list[str]] = {}
    for name, model in choices.items():
        names.setdefault(model, []).append(f"`{name}`")
    return "\n".join(f"- {', '.join(known)}: {_first_paragraph(model)}" for model, known in names.items())


def _first_paragraph(model: type) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    print(page(), end="")
