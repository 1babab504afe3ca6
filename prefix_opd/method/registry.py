"""What a run chooses by name: a schedule, a weighting, an objective.

Each is a class that declares its own settings. A node of the config holds the name and the settings, side by side:
``prefix_opd.schedule = {name: linear, start: 1, increment: 256}``. A user's own class joins the same registry
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
        kind: what the classes are, as a message calls them.
        default: the name that a node without one chooses.
    """

    def __init__(self, kind: str, default: str):
        super().__init__()
        self.kind, self.default = kind, default

    def register(self, *names: str) -> Callable[[type[Choice]], type[Choice]]:
        """A decorator that adds a class. Raises ValueError if a name is taken."""

        def add(cls: type[Choice]) -> type[Choice]:
            for name in names:
                if name in self:
                    raise ValueError(f"{self.kind} {name!r} is registered already; choose another name")
                self[name] = cls
            return cls

        return add

    def fields(self) -> dict[str, FieldInfo]:
        """Every setting that a registered class declares."""
        return dict(_all_fields(*self.values()).model_fields)

    def build(self, node: Any) -> Any:
        """The chosen class with its settings.

        A node may hold settings of other classes, as the shipped YAML does: each is checked by the class that declares
        it, and not used.

        Raises:
            ValidationError: an unknown name, a key that no class declares, or a value that its class refuses.
        """
        if not isinstance(node, Mapping):  # a finished choice, or something that pydantic refuses
            return node
        name = node.get("name", self.default)
        if not isinstance(name, str) or name not in self:
            raise self._unknown(name)
        cls = self[name]
        given = {key: value for key, value in node.items() if key != "name"}
        _all_fields(*self.values(), cls)(**given)
        return cls(**{key: value for key, value in given.items() if key in cls.model_fields})

    def _unknown(self, name: Any) -> ValidationError:
        nearest = difflib.get_close_matches(str(name), list(self), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        error = PydanticCustomError("unknown_name", f"is not one of {', '.join(sorted(self))}{hint}")
        return ValidationError.from_exception_data(self.kind, [InitErrorDetails(type=error, loc=("name",), input=name)])


@functools.cache
def _all_fields(*classes: type[Fields]) -> type[Fields]:
    """One class with the settings of all; of two that declare the same one, the last counts."""
    fields = {key: field for cls in classes for key, field in cls.model_fields.items()}
    definitions: dict[str, Any] = {key: (field.annotation, field) for key, field in fields.items()}
    return create_model("all", __base__=Fields, **definitions)
