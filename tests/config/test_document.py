"""``docs/settings.md`` is up to date and complete."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from prefix_opd.config.document import LAUNCHER, docstrings, groups, page, rows
from prefix_opd.config.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def every_row(model=Settings, prefix="prefix_opd"):
    yield from rows(model, prefix)
    for key, inner in groups(model, prefix):
        yield from every_row(inner, key)


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run `python -m prefix_opd.config.document > docs/settings.md`"


def test_each_setting_has_one_row():
    """The keys of the page are those of the settings themselves; a watcher is one row."""

    def leaves(node, prefix):
        for name, value in node.items():
            if isinstance(value, dict) and "action" not in value:
                yield from leaves(value, f"{prefix}.{name}")
            else:
                yield f"{prefix}.{name}"

    keys = [key for key, *_ in every_row()]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(leaves(Settings().model_dump(), "prefix_opd"))


def test_only_what_the_launcher_fills_in_has_no_docstring():
    without = {key for key, _, _, meaning in every_row() if meaning == LAUNCHER}
    assert without == {"prefix_opd.stop_token_ids", "prefix_opd.ignore_own_end_token"}


class Inner(BaseModel):
    """A group."""

    length: Annotated[int, Field(ge=1)] | None = None
    """How many
    tokens."""


class Base(BaseModel):
    rate: float = 0.5
    """Inherited."""


class Outer(Base):
    inner: Inner = Inner()


def test_rows_of_a_small_model():
    assert docstrings(Outer) == {"rate": "Inherited."}
    assert list(rows(Outer, "x")) == [("x.rate", "0.5", "number", "Inherited.")]
    assert list(groups(Outer, "x")) == [("x.inner", Inner)]
    assert list(rows(Inner, "x.inner")) == [("x.inner.length", "null", "integer ≥ 1 or null", "How many tokens.")]
