"""Types of settings: what a value of the config may be, with its unit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def whole(value: Any) -> Any:
    """Accept 256 and 256.0 (YAML and shells write both), refuse 0.5, "many" and True."""
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise ValueError("must be a whole number")
    return int(value)


Tokens = Annotated[int, BeforeValidator(whole), Field(ge=1)]
"""A number of tokens, at least 1."""
Position = Annotated[int, BeforeValidator(whole), Field(ge=0)]
"""A position in a response, from 0."""
Seconds = Annotated[float, Field(gt=0)]


class Fields(BaseModel):
    """A group of settings. Undeclared keys and values of another type are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
