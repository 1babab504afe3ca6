"""``docs/settings.md`` is up to date and complete."""

from pathlib import Path
from typing import Annotated, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, BeforeValidator, Field
from settings_page import LAUNCHER, docstrings, groups, page

from prefix_opd.config.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"
CONFIG = ROOT / "recipe" / "prefix_opd" / "config" / "prefix_opd.yaml"


def every_row():
    return [row for _, _, rows in groups(Settings, "prefix_opd") for row in rows]


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run `python tests/settings_page.py > docs/settings.md`"


def test_each_setting_has_one_row():
    """The page has the keys of the shipped YAML; a watcher has one row."""
    node = OmegaConf.to_container(OmegaConf.load(CONFIG)["prefix_opd"], resolve=False)

    def leaves(node, prefix):
        for name, value in node.items():
            if isinstance(value, dict) and "action" not in value:
                yield from leaves(value, f"{prefix}.{name}")
            else:
                yield f"{prefix}.{name}"

    keys = [key for key, *_ in every_row()]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(leaves(node, "prefix_opd"))


def test_only_what_the_launcher_fills_in_has_no_docstring():
    without = {key for key, _, _, meaning in every_row() if meaning == LAUNCHER}
    assert without == {"prefix_opd.stop_token_ids", "prefix_opd.ignore_own_end_token"}


class Inner(BaseModel):
    """A group.

    Its second paragraph."""

    length: Annotated[int, Field(ge=1)] | None = None
    """How many
    tokens."""


class Base(BaseModel):
    """A base."""

    rate: float = 0.5
    """Inherited."""


class Other(Base):
    """Another."""

    share: Literal["a", "b"] = "a"
    """Its own."""


class Registry(dict):
    def build(self, node):
        return self[node["name"]]()


CHOICES = Registry(base=Base, other=Other)


class Outer(Base):
    inner: Inner = Inner()
    chosen: Annotated[Base, BeforeValidator(CHOICES.build)] = Other()
    """By name."""


def test_the_groups_of_a_small_model():
    assert docstrings(Outer) == {"rate": "Inherited.", "chosen": "By name."}
    assert [(key, text, list(rows)) for key, text, rows in groups(Outer, "x")] == [
        ("x", "", [("x.rate", "0.5", "number", "Inherited.")]),
        ("x.inner", "A group.", [("x.inner.length", "null", "integer ≥ 1 or null", "How many tokens.")]),
        (
            "x.chosen",
            "By name.\n\n- `base`: A base.\n- `other`: Another.",
            [
                ("x.chosen.name", "other", "base, other", "The class, see the list above."),
                ("x.chosen.rate", "0.5", "number", "Inherited."),
                ("x.chosen.share", "a", "a, b", "Its own. Read by: other."),
            ],
        ),
    ]
