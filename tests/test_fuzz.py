"""Whatever is typed or read, only our own error comes out: random overrides, settings, model files and rows."""

import json
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prefix_opd.compose import compose
from prefix_opd.data import PrepareSettings, prepare
from prefix_opd.data.known import KNOWN
from prefix_opd.data.layouts import Problem, read_problem
from prefix_opd.errors import UserError
from prefix_opd.schedule import prefix_length
from prefix_opd.settings import ScheduleSettings, Settings

MANY = settings(
    max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
FEW = settings(MANY, max_examples=20)
"""Each composes a whole config."""

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = {
    "schedule": ("name", "start", "increment", "maximum", "length", "steps", "over"),
    "prompt": ("ending", "allow_split"),
    "rollout": ("stop", "final_output_only"),
    "advantage": ("student_log_prob", "clamp"),
    "loss": ("max_ratio",),
    "weighting": ("name", "start", "stop", "tokens"),
}
known_node = st.fixed_dictionaries(
    {}, optional={group: st.dictionaries(st.sampled_from(names), values, max_size=4) for group, names in KEYS.items()}
)


def one_line(error: UserError) -> None:
    assert "\n" not in str(error) and str(error)


@MANY
@example({"schedule": {"start": float("inf")}})
@example({"schedule": {"start": float("nan"), "name": []}})
@example({"schedule": {"increment": 10**400}, "weighting": {"name": {}}})
@given(known_node | st.dictionaries(st.text(max_size=10), values, max_size=3))
def test_settings(node):
    try:
        found = Settings.from_node(node)
    except UserError as error:
        one_line(error)
    else:
        assert 1 <= prefix_length(1, found.schedule, 100) <= 100


@MANY
@given(
    st.sampled_from(["constant", "linear", "steps", "cosine", "geometric", "full"]),
    st.tuples(*[st.integers(-3, 10**9)] * 4),
    st.lists(st.tuples(st.integers(-1, 50), st.integers(-1, 10**6)), max_size=3),
    st.integers(1, 10**6),
    st.integers(1, 20_000),
)
def test_a_schedule_that_is_accepted_stays_in_its_bounds(name, numbers, steps, step, longest):
    start, increment, length, over = numbers
    try:
        schedule = ScheduleSettings(
            name=name, start=start, increment=increment, length=length, over=over, steps=tuple(steps)
        )
    except ValueError:
        return
    assert 1 <= prefix_length(step, schedule, longest) <= longest


@FEW
@given(
    st.lists(
        st.text(string.printable, max_size=20)
        | st.builds(
            "{}{}={}".format,
            st.sampled_from(["", "+", "++", "~"]),
            st.sampled_from(["prefix_opd.schedule.start", "data.seed", "experiment", "platform", "prefix_opd", "x.y"]),
            st.text(string.ascii_letters + string.digits + "[]{}$'\"\\,:.-", max_size=10),
        ),
        max_size=2,
    )
)
def test_overrides(overrides):
    try:
        config = compose(["experiment=tiny/schedule", *overrides])
    except UserError as error:
        one_line(error)
    else:
        assert "trainer" in config


cells = values | st.just("A") | st.sampled_from([["1", "2"], [{"from": "human", "value": "1+1?"}]])
NAMES = sorted({column.name for known in KNOWN.values() for column in known.columns})


@MANY
@given(st.sampled_from(sorted(KNOWN)), st.data())
def test_rows_of_any_content(name, drawn):
    known = KNOWN[name]
    columns = st.sampled_from([column.name for column in known.columns]) | st.sampled_from(NAMES)
    row = drawn.draw(st.dictionaries(columns, cells, max_size=8))
    try:
        found = read_problem(known, row, 0, 0)
    except UserError as error:
        one_line(error)
    else:
        assert isinstance(found, Problem)


lines = st.binary(max_size=60) | st.builds(
    lambda row: json.dumps(row).encode(), st.dictionaries(st.sampled_from(["problem", "answer"]), cells) | values
)


@MANY
@given(st.sampled_from([".jsonl", ".csv", ".parquet"]), st.lists(lines, max_size=4))
@example(".jsonl", [b'{"problem": "\\ud800", "answer": "1"}'])
@example(".jsonl", [b"\xff"])
@example(".csv", [b"problem,answer", b"\xff,1"])
def test_files_of_any_content(tmp_path_factory, suffix, content):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / f"test{suffix}"
    path.write_bytes(b"\n".join(content))
    try:
        manifest = prepare(PrepareSettings("math500", out=folder / "out", from_dir=path, progress=False))
    except UserError as error:
        one_line(error)
        assert not (folder / "out").exists()
    else:
        assert manifest.files["test.parquet"].rows >= 1


@MANY
@given(st.binary(max_size=80) | st.builds(lambda node: json.dumps(node).encode(), values))
def test_a_models_config_of_any_content(tmp_path_factory, content):
    from prefix_opd.models import Model

    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError) as told:
        _ = Model("model", str(folder)).shape
    one_line(told.value)
