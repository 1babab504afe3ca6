"""A setting is taken as it stands: modules that read the config and those that read `Settings` see the same value."""

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.config.settings import Settings

NUMBER, WHOLE = "must be a number", "must be a whole number"


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"poll_seconds": True}, f"prefix_opd.poll_seconds=True: {NUMBER}"),
        ({"start_up_seconds": "1"}, f"prefix_opd.start_up_seconds=1: {NUMBER}"),
        ({"advantage": {"clamp": "5"}}, f"prefix_opd.advantage.clamp=5: {NUMBER}"),
        ({"watchers": {"endless": {"threshold": True}}}, f"prefix_opd.watchers.endless.threshold=True: {NUMBER}"),
        ({"schedule": {"name": "power", "power": "2"}}, f"prefix_opd.schedule.power=2: {NUMBER}"),
        # the report would refuse this run, and the engines would have no room for the tools' tokens of that one
        ({"position_bins": 16.0}, f"prefix_opd.position_bins=16.0: {WHOLE}"),
        ({"rollout": {"tool_tokens": 32.0}}, f"prefix_opd.rollout.tool_tokens=32.0: {WHOLE}"),
        ({"rollout": {"stop": [1.0]}}, f"=1.0: {WHOLE}"),
        # torch compares no position with such a number
        ({"weighting": {"name": "window", "stop": 2**63}}, f"stop={2**63}: {WHOLE} of at most {2**63 - 1}"),
    ],
)
def test_a_value_of_another_type_is_refused(node, line):
    with pytest.raises(UserError) as refused:
        Settings.from_node(node)
    assert line in str(refused.value)


def test_a_bare_off_of_yaml_is_off():
    """YAML reads it as false."""
    found = Settings.from_node({"watchers": {"endless": {"action": False}}, "prompt": {"thinking": False}})
    assert (found.watchers.endless.action, found.prompt.thinking) == ("off", "off")
    with pytest.raises(UserError, match="prefix_opd.watchers.missing.action=False: input should be 'skip' or 'stop'"):
        Settings.from_node({"watchers": {"missing": {"action": False}}})


def test_bytes_that_are_no_text_are_refused():
    """Python decodes the byte 0xff of a command line as the surrogate U+DCFF, which no file of a run could hold."""
    with pytest.raises(UserError, match=r"'prefix_opd.prompt.ending=\\udcff': is not text in UTF-8"):
        compose(["experiment=tiny/schedule", "prefix_opd.prompt.ending=\udcff"])
