"""The page ``docs/settings.md``, made from the docstrings of the settings.

python -m prefix_opd.config.document > docs/settings.md
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prefix_opd.config.settings import Settings

HEAD = """# Settings

Every setting of the config node `prefix_opd`. Set one on the command line (`prefix_opd.schedule.increment=8`) or in an
experiment's YAML (`recipe/prefix_opd/config/experiment/`). All other keys of a config are verl's.

The launcher fills in keys marked *set by the launcher*. The default of a platform or an experiment, where it differs
from the one below, is in `recipe/prefix_opd/config/`.

This page is written by `python -m prefix_opd.config.document > docs/settings.md`.
"""
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
TYPES = {int: "integer", float: "number", bool: "true, false", str: "text", type(None): "null"}
LAUNCHER = "Set by the launcher."
"""Meaning of a field without a docstring: only the fields that the launcher fills in have none."""


def page(root: type[BaseModel] = Settings, prefix: str = "prefix_opd") -> str:
    """The whole page as Markdown: one table for each group of settings, one row for each setting."""
    return "\n".join([HEAD, *_tables(root, prefix)]) + "\n"


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


def rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Key, default, accepted values and meaning of the settings of one model, without those of nested groups."""
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        if not _is_group(field, texts.get(name)):
            yield f"{prefix}.{name}", _default(field), _values(field), texts.get(name, LAUNCHER)


def groups(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The nested groups of a model: their key and their class, several classes where a field accepts several."""
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        if _is_group(field, texts.get(name)):
            for inner in _models(field.annotation):
                yield f"{prefix}.{name}", inner


def _tables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    found = list(rows(model, prefix))
    if found:
        yield f"## `{prefix}`"
        yield ""
        yield _words(inspect.cleandoc(model.__doc__ or ""))
        yield ""
        yield "| key | default | values | meaning |"
        yield "|---|---|---|---|"
        for key, default, values, meaning in found:
            cells = (f"`{key}`", f"`{default}`", values, _words(meaning))
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""
    for key, inner in groups(model, prefix):
        yield from _tables(inner, key)


def _is_group(field: FieldInfo, text: str | None) -> bool:
    """Whether a field is a table of its own. A small record with a docstring of its own (a watcher) is one row."""
    return bool(_models(field.annotation)) and text is None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        inner = ", ".join(f"{name}: {_plain(part)}" for name, part in value.model_dump().items())
        return f"{{{inner}}}"
    return _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _values(field: FieldInfo) -> str:
    models = _models(field.annotation)
    if models:
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
    limits = [
        f"{sign} {getattr(bound, name)}" for bound in bounds for name, sign in BOUNDS.items() if hasattr(bound, name)
    ]
    return " ".join(
        [TYPES.get(annotation, getattr(annotation, "__name__", str(annotation))), ", ".join(limits)]
    ).strip()


def _words(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


if __name__ == "__main__":
    print(page(), end="")
