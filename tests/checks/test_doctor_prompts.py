"""The doctor's checks of prompts and templates, and of the rows of the data."""

from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_templates import PLAIN, SWITCHED

from prefix_opd.base.errors import UserError
from prefix_opd.checks import data, prompts
from prefix_opd.checks.doctor import Status, look
from prefix_opd.checks.preflight import check
from prefix_opd.checks.teachers import check_teacher_prompts
from prefix_opd.config.keys import STUDENT_KEY as STUDENT
from prefix_opd.config.keys import TEACHER_KEY as TEACHER
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY
from prefix_opd.method.prompt import template_with_ending

OTHER = PLAIN.replace("assistant", "system") + "{%- endif -%}"


def one(check, case):
    (finding,) = look([("check", check)], case)
    return finding


# ---- prompts ----


def test_the_prompt_is_shown_token_by_token(case):
    opened = case()
    finding = one(prompts.prompt_by_token, opened)
    assert finding.reason.startswith(f"{len(opened.prompts[0])} tokens")
    assert "260:'<|im_start|>' 257:'user'" in finding.reason and finding.reason.endswith("262:'<think>'")


def test_a_long_prompt_is_whole_in_json(case, questions):
    opened = case(f"data.train_files={questions(['1' * 200] * 18)}")
    told = one(prompts.prompt_by_token, opened).as_dict()
    assert "more]" in told["reason"] and "more]" not in told["detail"]
    assert len(told["detail"].split(" ")) == len(opened.prompts[0])


def test_a_prompt_is_the_same_before_and_after_preflight(case):
    opened = case()
    check(opened.config)  # puts the ending into the config's chat template
    assert case().prompts == opened.prompts and opened.prompts[0][-2:] != [262, 262]


def test_a_users_own_template_is_what_the_student_sees(case):
    opened = case("actor_rollout_ref.model.custom_chat_template='Q: {{ messages[0].content }}'")
    assert opened.render(opened.student, [[{"role": "user", "content": "1+1:"}]]) == ["Q: 1+1:<think>"]
    check(opened.config)
    template = opened.config.actor_rollout_ref.model.custom_chat_template
    assert template == template_with_ending("Q: {{ messages[0].content }}", "<think>")
    assert opened.render(opened.student, [[{"role": "user", "content": "1+1:"}]]) == ["Q: 1+1:<think>"]


def test_an_ending_that_is_split_fails(case):
    finding = one(prompts.forced_ending, case('prefix_opd.prompt.ending="<thought>"'))
    assert finding.status is Status.FAIL and "the tokenizer splits it" in finding.reason
    assert one(prompts.forced_ending, case()).status is Status.OK


def test_templates_that_differ(case, model):
    finding = one(prompts.same_template, case(f"{TEACHER}={model('teacher', chat_template=OTHER)}"))
    assert finding.status is Status.WARN and "'system' in place of 'assistant'" in finding.reason


@pytest.mark.parametrize(
    ("overrides", "status", "told"),
    [
        ([], Status.OK, "the prompt opens the thinking"),
        (["prefix_opd.prompt.thinking=template"], Status.OK, "which is on"),
        (["prefix_opd.prompt.thinking=off"], Status.OK, "which is off"),
        (["+data.apply_chat_template_kwargs.enable_thinking=false"], Status.FAIL, "<think> is forced after it"),
        (["prefix_opd.prompt.ending=null"], Status.WARN, "must open its thinking itself"),
        (
            ["prefix_opd.prompt.ending=null", "+data.apply_chat_template_kwargs.enable_thinking=false"],
            Status.OK,
            "which is off",
        ),
    ],
)
def test_thinking_mode(case, model, overrides, status, told):
    finding = one(prompts.thinking_mode, case(f"{STUDENT}={model('student', chat_template=SWITCHED)}", *overrides))
    assert (finding.status, told in finding.reason) == (status, True), finding
    assert "no thinking mode" in one(prompts.thinking_mode, case("prefix_opd.prompt.thinking=off")).reason
    refused = one(prompts.thinking_mode, case("prefix_opd.prompt.thinking=template"))
    assert refused.status is Status.FAIL and "has no switch" in refused.reason


# ---- data ----


def test_missing_columns_fail(case, tmp_path, tiny_data):
    path = tmp_path / "columns.parquet"
    pq.write_table(pq.read_table(tiny_data["train"]).drop_columns(["reward_model"]), path)
    for key, override in ((TRAIN_KEY, f"data.train_files={path}"), (VAL_KEY, f"data.val_files={path}")):
        finding = one(partial(data.columns, key), case(override))
        assert finding.status is Status.FAIL and "lacks the column 'reward_model'" in finding.reason


def test_an_empty_prompt_fails(case, questions):
    finding = one(data.empty_prompts, case(f"data.train_files={questions(['1+1:', ' ', '2+2:'] * 6)}"))
    assert finding.status is Status.FAIL and "6 of 18 prompts of data.train_files are empty, the first in row 1" in (
        finding.reason
    )


def test_long_prompts(case, questions):
    few = f"data.train_files={questions(['1' * 200] + ['1+1:'] * 19)}"
    # filtered: 1 of 20 is dropped without a word; not filtered: its beginning is cut off
    dropped = one(data.long_prompts, case(few, "data.filter_overlong_prompts=true"))
    assert dropped.status is Status.WARN and "verl drops 5.0% of the data" in dropped.reason
    cut = one(data.long_prompts, case(few, "data.filter_overlong_prompts=false"))
    assert cut.status is Status.FAIL and "verl cuts their beginning off" in cut.reason
    many = f"data.train_files={questions(['1' * 200] * 18)}"
    assert one(data.long_prompts, case(many, "data.filter_overlong_prompts=true")).status is Status.FAIL


def test_long_validation_prompts_count_too(case, questions):
    path = questions(["1" * 200] * 2 + ["1+1:"] * 6)
    finding = one(data.long_prompts, case(f"data.val_files={path}", "data.filter_overlong_prompts=true"))
    assert finding.status is Status.WARN
    assert "0 of 40 prompts of data.train_files" in finding.reason and "2 of 8 prompts of data.val_files" in (
        finding.reason
    )
    assert "verl drops 25.0% of the data" in finding.reason


def test_a_check_that_breaks_is_a_fail_and_hides_no_other(case):
    def broken(_):
        raise TypeError("unhashable\ntype")

    found = look([("one", broken), ("two", data.empty_prompts)], case())
    assert [finding.status for finding in found] == [Status.FAIL, Status.OK]
    assert found[0].check == "one" and found[0].reason == "the check itself failed (TypeError: unhashable type)"


def test_a_sample_is_spread_over_all_rows(case):
    opened = case(sample=4)
    assert opened.sampled_messages == [opened.train_messages[i] for i in (0, 10, 20, 30)]
    assert len(case().prompts) == 40


def test_duplicates(case, questions, tiny_data):
    twice = one(data.duplicates, case(f"data.train_files={questions(['1+1:', '1+2:'] * 9)}"))
    assert twice.status is Status.WARN and "16 of 18 training prompts are duplicates" in twice.reason
    leaked = one(data.duplicates, case(f"data.val_files={tiny_data['train']}"))
    assert leaked.status is Status.WARN and "40 of 40 validation prompts are also training prompts" in leaked.reason


def test_validation_rows_without_an_answer(case, tmp_path, tiny_data):
    table = pq.read_table(tiny_data["test"])
    truths = pa.array([{"style": "rule", "ground_truth": text} for text in (None, " ", "14")])
    path = tmp_path / "some.parquet"
    place = table.schema.get_field_index("reward_model")
    pq.write_table(table.slice(0, 3).set_column(place, "reward_model", truths), path)
    found = one(data.true_answers, case(f"data.val_files={path}"))
    assert found.status is Status.WARN and "2 of 3 validation rows have no true answer" in found.reason
    assert one(data.true_answers, case()).status is Status.OK


def test_a_template_that_rejects_a_system_message(case, model, questions, tmp_path):
    """In the data, and in the teacher's own prompt."""
    strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    student = model("student", chat_template=strict + "{{ m.content }}{% endfor %}{{ '<|im_end|>' }}")
    plain = pq.read_table(questions(["1+1:"] * 20))
    asked = [[{"role": "user", "content": "1+1:"}]] * 19
    asked.append([{"role": "system", "content": "Count."}, *asked[0]])
    path = tmp_path / "system.parquet"
    place = plain.schema.get_field_index("prompt")
    pq.write_table(plain.set_column(place, "prompt", pa.array(asked, plain.schema.field("prompt").type)), path)
    found = one(data.roles, case(f"{STUDENT}={student}", f"data.train_files={path}"))
    told = "row 19 of data.train_files (system, user): its chat template rejects a prompt of the data (TemplateError"
    assert found.status is Status.FAIL and told in found.reason
    assert one(data.roles, case(f"{STUDENT}={student}")).status is Status.OK
    own = case(f"{STUDENT}={student}", "prefix_opd.teacher_prompt.system=Count.", f"{TEACHER}={student}")
    with pytest.raises(UserError, match="row 0: the student's chat template rejects the teacher's prompt .TemplateErr"):
        check_teacher_prompts(own.config, own.settings, own.student)


def test_a_teacher_needs_no_chat_template(case, model):
    """The prompt is rendered once, in the student's."""
    teacher = model("teacher")
    (teacher / "chat_template.jinja").unlink()
    found = one(prompts.same_template, case(f"{TEACHER}={teacher}"))
    assert found.status is Status.WARN and "is not compared (has no chat template)" in found.reason
