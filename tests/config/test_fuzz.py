"""Whatever is typed or read, only our own error comes out: random overrides, settings, model files and rows."""

import json
import pickle
import string

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.checks.run_data import check_data, conversations
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import VAL_KEY
from prefix_opd.config.settings import Settings
from prefix_opd.data import PrepareSettings, prepare
from prefix_opd.data.known import KNOWN
from prefix_opd.data.layouts import Problem, read_problem
from prefix_opd.launch import _make_paths_absolute
from prefix_opd.method.schedule import SCHEDULES, prefix_lengths
from prefix_opd.miniature.data import write_data

MANY = settings(
    max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
FEW = settings(MANY, max_examples=20)
"""For tests that compose a whole config per example."""

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = {
    "schedule": ("name", *dict.fromkeys(key for cls in SCHEDULES.values() for key in cls.model_fields)),
    "prompt": ("thinking", "ending", "allow_split"),
    "teacher_prompt": ("column", "template", "system", "max_length"),
    "rollout": ("stop", "final_output_only", "seeded", "off_policy_steps", "timeout_seconds", "tool_tokens"),
    "advantage": ("student_log_prob", "clamp"),
    "loss": ("name", "max_ratio"),
    "update": ("micro_batch_cost", "share_prompts", "response_logits_only"),
    "weighting": ("name", "start", "stop", "tokens", "largest"),
    "watchers": ("missing", "not_finite", "uniform_teacher", "sampler_mismatch", "gradient_norm", "retries"),
    "checkpoint": ("keep_last", "keep_best"),
    "probe": ("every", "prompts", "tail_warning"),
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
        assert 1 <= prefix_lengths(found.schedule, 1, 1, 100)[0] <= 100


@MANY
@given(
    st.sampled_from(list(SCHEDULES)),
    st.tuples(*[st.integers(-3, 10**9)] * 4),
    st.lists(st.tuples(st.integers(-1, 50), st.integers(-1, 10**6)), max_size=3),
    st.integers(1, 10**6),
    st.integers(1, 20_000),
)
def test_a_schedule_that_is_accepted_stays_in_its_bounds(name, numbers, steps, step, longest):
    start, increment, length, over = numbers
    try:
        numbers = dict(start=start, increment=increment, length=length, over=over, steps=tuple(steps))
        schedule = SCHEDULES.build({"name": name, **numbers})
    except ValueError:
        return
    assert 1 <= prefix_lengths(schedule, step, 1, longest)[0] <= longest


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


CHECKED_KEYS = (
    "actor_rollout_ref",
    "actor_rollout_ref.actor",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.model.custom_chat_template",
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.model.trust_remote_code",
    "actor_rollout_ref.rollout.max_model_len",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "data",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.prompt_key",
    "data.reward_fn_key",
    "data.train_batch_size",
    "data.train_files",
    "data.val_files",
    "distillation",
    "distillation.distillation_loss.loss_mode",
    "distillation.teacher_models.teacher_model.model_path",
    "prefix_opd",
    "prefix_opd.probe.every",
    "prefix_opd.prompt.ending",
    "prefix_opd.rollout.stop",
    "trainer.default_local_dir",
    "trainer.n_gpus_per_node",
    "trainer.resume_from_path",
    "trainer.resume_mode",
    "trainer.save_freq",
    "trainer.total_training_steps",
    "trainer.validation_data_dir",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    files = write_data(tmp_path_factory.mktemp("fuzz_data"), train=40, test=3)
    return compose(
        ["experiment=tiny/schedule", f"data.train_files={files['train']}", f"data.val_files={files['test']}"]
    )


@settings(MANY, max_examples=100)
@example({"prefix_opd": 5})
@example({"data.prompt_key": ["prompt"]})
@example({"distillation.distillation_loss.loss_mode": None, "prefix_opd.probe.every": 1})
@example({"actor_rollout_ref.model.path": "\0"})
@given(st.dictionaries(st.sampled_from(CHECKED_KEYS), values, min_size=1, max_size=2))
def test_a_config_of_any_values(config, changes):
    """Covers the checks of `prefix-opd train --check`, with paths of any kind."""
    changed = pickle.loads(pickle.dumps(config))  # a quarter of the time of copy.deepcopy
    try:
        for key, value in changes.items():
            OmegaConf.update(changed, key, value, merge=False, force_add=True)
        OmegaConf.to_container(changed, resolve=True)  # as `compose` does first
    except (OmegaConfBaseException, AssertionError, TypeError, ValueError):
        return  # the one was put in the other's way, or the text is no interpolation
    try:
        check(changed)
    except UserError as error:
        one_line(error)
    else:
        _make_paths_absolute(changed)


messages = st.lists(st.dictionaries(st.sampled_from(["role", "content"]), st.none() | st.text(max_size=6)), max_size=3)
rows = st.fixed_dictionaries(
    {}, optional={"prompt": messages | values, "data_source": scalars, "reward_model": values, "extra_info": values}
)


@MANY
@example([{"prompt": ["a"], "data_source": "x", "reward_model": 1}])
@example([{"prompt": [{"role": "user", "content": None}], "data_source": "x", "reward_model": 1}])
@given(st.lists(rows, max_size=3))
def test_rows_to_train_on_of_any_content(config, tmp_path_factory, drawn):
    """The doctor can read every conversation that preflight accepts."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drawn))
    files = [folder / "rows.jsonl"]
    try:
        pq.write_table(pa.Table.from_pylist(drawn), folder / "rows.parquet")
        files.append(folder / "rows.parquet")
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        pass  # rows that no parquet file can hold
    changed = OmegaConf.masked_copy(config, "data")
    for file in files:
        changed.data.val_files = str(file)
        try:
            found = conversations(changed, VAL_KEY)
        except UserError as error:
            one_line(error)
        else:
            assert len(found) == len(drawn)
            assert all(isinstance(one["content"], str) and one["role"] is not None for row in found for one in row)


@MANY
@given(st.sampled_from([".jsonl", ".json", ".parquet"]), st.binary(max_size=80))
@example(".jsonl", b"\xff")
@example(".jsonl", b"[" * 10_000)
@example(".parquet", b"PAR1PAR1PAR1")
def test_files_to_train_on_of_any_content(config, tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("files") / f"rows{suffix}"
    path.write_bytes(content)
    changed = OmegaConf.masked_copy(config, "data")
    changed.data.val_files = str(path)
    with pytest.raises(UserError) as told:
        check_data(changed, VAL_KEY)
    one_line(told.value)


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
        manifest = prepare(PrepareSettings("math500", out=folder / "out", from_dir=path))
    except UserError as error:
        one_line(error)
        assert not (folder / "out").exists()
    else:
        assert manifest["files"]["test.parquet"]["rows"] >= 1


@MANY
@given(st.binary(max_size=80) | st.builds(lambda node: json.dumps(node).encode(), values))
def test_a_models_config_of_any_content(tmp_path_factory, content):
    from prefix_opd.config.models import Model

    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError) as told:
        _ = Model("model", str(folder)).shape
    one_line(told.value)
