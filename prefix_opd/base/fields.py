"""Types of settings: what a value of the config may be, with its unit.

A value is taken as it stands, because some modules read the config and not these classes: 256.0 is no whole number, and
neither true nor "1" is a number.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

LARGEST = 2**63 - 1
"""The largest whole number that torch and TransferQueue take."""


def whole(value: Any) -> Any:
    """Accept 256, refuse 256.0, "256", True and what has more than 64 bits."""
    if type(value) is not int or abs(value) > LARGEST:
        most = f" of at most {LARGEST}" if type(value) is int else ""
        raise ValueError(f"must be a whole number{most}")
    return value


def _has_numbers(kind: Any) -> bool:
    return kind is float or any(map(_has_numbers, get_args(kind)))


Tokens = Annotated[int, BeforeValidator(whole), Field(ge=1)]
"""A number of tokens, at least 1."""
Position = Annotated[int, BeforeValidator(whole), Field(ge=0)]
"""A position in a response, from 0."""
Seconds = Annotated[float, Field(gt=0)]


class Fields(BaseModel):
    """A group of settings. Undeclared keys and values of another type are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_it_stands(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, (bool, str)) and _has_numbers(kind):
            raise ValueError("must be a number")
        return "off" if value is False and "off" in get_args(kind) else value  # YAML reads a bare off as false
