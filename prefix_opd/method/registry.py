"""Registries of the classes that a run chooses by name: schedules, weightings, objectives.

Each class declares its settings. A config node holds the name and the settings:
``prefix_opd.schedule = {name: linear, start: 1, increment: 256}``. Users can register their own classes
(`prefix_opd.config.plugins`).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from prefix_opd.base.fields import Fields

Choice = TypeVar("Choice", bound=Fields)


class Registry(dict[str, type[Choice]]):
    """Name -> class.

    Args:
        kind: word for the classes in messages, e.g. "schedule".
        default: the name for a node without ``name``.
    """

    def __init__(self, kind: str, default: str):
        super().__init__()
        self.kind, self.default = kind, default

    def register(self, *names: str) -> Callable[[type[Choice]], type[Choice]]:
        """Decorator that registers a class. Raises ValueError if a name is taken."""

        def add(cls: type[Choice]) -> type[Choice]:
            for name in names:
                if name in self:
                    raise ValueError(f"{self.kind} {name!r} is registered already; choose another name")
                self[name] = cls
            return cls

        return add

    def fields(self) -> dict[str, FieldInfo]:
        """All settings of all registered classes."""
        return dict(_all_fields(*self.values()).model_fields)

    def build(self, node: Any) -> Any:
        """An instance of the chosen class.

        A node may hold settings of other classes, as the shipped YAML does. They are checked but not used.

        Raises:
            ValidationError: the name or a key is unknown, or a value is invalid for the class that declares it.
        """
        if not isinstance(node, Mapping):  # an instance, or something that pydantic rejects later
            return node
        name = node.get("name", self.default)
        if not isinstance(name, str) or name not in self:
            nearest = difflib.get_close_matches(str(name), list(self), n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            error = PydanticCustomError("unknown_name", f"is not one of {', '.join(sorted(self))}{hint}")
            details = InitErrorDetails(type=error, loc=("name",), input=name)
            raise ValidationError.from_exception_data(self.kind, [details])
        cls = self[name]
        given = {key: value for key, value in node.items() if key != "name"}
        _all_fields(*self.values(), cls)(**given)
        return cls(**{key: value for key, value in given.items() if key in cls.model_fields})


@functools.cache
def _all_fields(*classes: type[Fields]) -> type[Fields]:
    """One class with the settings of all. If two classes declare a setting, the last one wins."""
    fields: dict[str, Any] = {k: (field.annotation, field) for cls in classes for k, field in cls.model_fields.items()}
    return create_model("all", __base__=Fields, **fields)
