"""Training rows with prompts of the teacher's own: complete, and short enough."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.checks import prompts
from prefix_opd.checks.doctor import Status, look
from prefix_opd.checks.preflight import check
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions

COLUMN = "prefix_opd.teacher_prompt.column=teacher_prompt"
TEMPLATE = 'prefix_opd.teacher_prompt.template="{prompt} {solution}"'


@pytest.fixture
def written(tmp_path, tiny_data):
    """``written(name, values)`` adds a column to the first training rows; further rows have the last value."""

    def write(name, values, kind=None, suffix="parquet") -> str:
        table = pq.read_table(tiny_data["train"])
        values = [*values, *[values[-1]] * (table.num_rows - len(values))]
        table = table.append_column(name, pa.array(values, kind))
        path = tmp_path / f"rows.{suffix}"
        if suffix == "parquet":
            pq.write_table(table, path)
        else:
            table.to_pandas().to_json(path, orient="records", lines=True)
        return f"data.train_files={path}"

    return write


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["a", "b", None, "c"], "row 2 column 'teacher_prompt' is empty"),
        (["a", " "], "row 1 column 'teacher_prompt' is empty"),
        ([[{"role": "user", "content": "a"}], []], "row 1 column 'teacher_prompt' is empty"),
        ([[{"role": "user", "content": None}]], "row 0 column 'teacher_prompt': its content must be text"),
        (["a" * 23, "a" * 24], "row 1: the teacher's prompt has 33 tokens, and its engine has room for 32; set "),
    ],
)
def test_a_row_without_a_prompt_or_with_a_long_one_is_named(case, written, values, told, suffix):
    config = case(written("teacher_prompt", values, suffix=suffix), COLUMN).config
    # a text of 24 tokens in the chat template, which adds 8, and <think>
    with pytest.raises(UserError) as error:
        check(config)
    assert told in str(error.value)


def test_room_for_longer_prompts_is_room_of_the_teacher_alone(case, written):
    config = case(written("solution", ["1" * 60]), TEMPLATE, "prefix_opd.teacher_prompt.max_length=100").config
    check(config)
    assert config.actor_rollout_ref.rollout.max_model_len == 32 + 192 + 1
    assert config.distillation.teacher_models.teacher_model.inference.max_model_len == 100 + 192 + 1


def test_the_same_prompt_by_column_and_by_template_is_the_students(case, written):
    alike = case(written("solution", ["x"]), 'prefix_opd.teacher_prompt.template="{prompt}"')
    assert alike.teacher_prompts == alike.prompts
    conversations = [[{"role": "user", "content": "1"}], [{"role": "user", "content": "2"}]]
    whole = case(written("teacher_prompt", conversations), COLUMN)
    assert len(whole.teacher_prompts) == len(whole.prompts)
    assert whole.student.tokenizer.decode(whole.teacher_prompts[1]).endswith(
        "user\n2<|im_end|>\n<|im_start|>assistant\n<think>"
    )


def test_the_doctor_shows_what_the_teacher_sees(case, written):
    (finding,) = look([("", prompts.teachers_prompt)], case(written("solution", ["16"]), TEMPLATE))
    assert finding.status is Status.OK and " 16<|im_end|>" in finding.reason
    (finding,) = look([("", prompts.teachers_prompt)], case(written("solution", [None], pa.string()), TEMPLATE))
    assert finding.status is Status.FAIL and "row 0 column 'solution' is empty" in finding.reason
    assert look([("", prompts.teachers_prompt)], case())[0].reason == "the student's"


def test_the_plan_counts_the_teachers_own_prompts(case):
    own = case(TEMPLATE, "prefix_opd.teacher_prompt.max_length=132").config
    without, found = plan(case().config), plan(own)
    # 16 tokens for the student, 16 + (132 - 32) / 2 for the teacher, in 55 updates of 64 rollouts
    assert found.assumptions["mean_teacher_prompt"] == 66 and "mean_teacher_prompt" not in without.assumptions
    assert found.cost.tokens["scored"] - without.cost.tokens["scored"] == 50 * 55 * 64
    exact, before = found.cost.flop["exact"], without.cost.flop["exact"]
    assert exact.teacher_scoring > before.teacher_scoring and exact.update == before.update
    assert found.cost.flop["paper"] == without.cost.flop["paper"], "the paper's formula has no prompts"
    asked = plan(own, Assumptions(mean_teacher_prompt=16))
    assert asked.cost.flop["exact"] == before
