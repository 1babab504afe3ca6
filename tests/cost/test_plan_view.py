"""The text of a plan."""

import pytest
from typer.testing import CliRunner

from prefix_opd import cli


@pytest.mark.parametrize(
    ("experiment", "said"), [("auto", "L 8 to 192;"), ("schedule", "L 1 to 109;"), ("full", "L 192;")]
)
def test_the_head_has_the_shortest_and_the_longest_l(experiment, said):
    shown = CliRunner().invoke(cli.app(), ["plan", f"experiment=tiny/{experiment}"]).stdout
    assert said in " ".join(shown.split())
