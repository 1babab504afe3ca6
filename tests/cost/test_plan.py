"""The plan: hand-made figures, the paper's FLOP, and what the command prints."""

import json

import pytest
from typer.testing import CliRunner

from prefix_opd import cli
from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.cost.paper_check import check_paper
from prefix_opd.cost.plan import least_update, plan
from prefix_opd.cost.record import Assumptions


@pytest.fixture(scope="module")
def node():
    return compose(
        ["experiment=qwen3_8b/prefix_256", "layout=node_8x80gb_dedicated", "trainer.total_training_steps=10"]
    )


@pytest.fixture(scope="module")
def planned(node):
    return plan(node).as_dict()


def run(*arguments):
    return CliRunner().invoke(cli.app(), ["plan", *arguments])


# ---- the paper ----


@pytest.mark.parametrize(
    ("prefix", "updates", "published"), [(256, 10, 5.7e17), (512, 50, 5.2e18), (1024, 40, 8.9e18), (2048, 40, 1.7e19)]
)
def test_the_papers_flop_for_8b_from_a_composed_config(prefix, updates, published):
    config = compose([f"experiment=qwen3_8b/prefix_{prefix}", f"trainer.total_training_steps={updates}"])
    assert plan(config).as_dict()["flop"]["paper"]["total"] == pytest.approx(published, rel=0.10)


def test_it_says_which_of_the_papers_rows_do_not_fit():
    checks = {(check.row.size, check.row.run, check.row.updates): check for check in check_paper()}
    fitting = [key for key, check in checks.items() if check.fits]
    assert fitting == [
        ("8b", "prefix 256", 10),
        ("8b", "prefix 256", 60),
        ("8b", "prefix 512", 50),
        ("8b", "prefix 1024", 40),
        ("8b", "prefix 2048", 40),
    ]
    sixty = checks["8b", "prefix 2048", 60]
    assert sixty.ours == pytest.approx(2.6e19, rel=0.02)
    assert "or 40 updates at the cap" in sixty.why
    assert "needs rollouts of about" in checks["1.7b", "prefix 2048", 60].why


def test_shorter_rollouts_bring_the_papers_full_run_back():
    config = compose(["experiment=qwen3_8b/full"])
    found = plan(config, Assumptions(responses=ResponseLengths(((12_217, 1.0),))))
    assert found.cost.flop["paper"].total == pytest.approx(1.8e20, rel=0.01)


# ---- a plan ----


def test_the_shape_of_the_object(planned):
    assert {"flop", "tokens", "memory_gib", "hours", "full_opd"} <= planned.keys()
    phases = {"sampling", "student_scoring", "teacher_scoring", "update", "total"}
    for kind in ("paper", "exact"):
        assert planned["flop"][kind].keys() == planned["full_opd"]["flop"][kind].keys() == phases
        parts = sum(planned["flop"][kind][phase] for phase in phases - {"total"})
        assert planned["flop"][kind]["total"] == pytest.approx(parts)
    assert planned["hours"].keys() == phases
    json.dumps(planned)


def test_exact_counts_prompts_and_leaves_out_the_pass_that_is_skipped(planned):
    assert planned["flop"]["exact"]["student_scoring"] == 0
    assert planned["flop"]["paper"]["student_scoring"] > 0
    # 456 tokens in place of 256, nearly all of the cost linear in them
    assert planned["flop"]["exact"]["update"] / planned["flop"]["paper"]["update"] == pytest.approx(456 / 256, rel=0.01)
    config = compose(["experiment=qwen3_8b/prefix_256", "prefix_opd.advantage.student_log_prob=recomputed"])
    assert plan(config).as_dict()["flop"]["exact"]["student_scoring"] > 0


def test_tokens(planned):
    rollouts = 10 * 2048
    assert planned["tokens"] == {
        "prompts": rollouts * 200,
        "generated": rollouts * 256,
        "scored": rollouts * 456,
        "in_loss": rollouts * 256,
    }
    window = compose(["experiment=qwen3_8b/window_1024_2048", "trainer.total_training_steps=1"])
    tokens = plan(window).as_dict()["tokens"]
    assert (tokens["generated"], tokens["in_loss"]) == (2048 * 2048, 2048 * 1024)


def test_full_opd_stands_beside_it(planned):
    full = compose(["experiment=qwen3_8b/full", "layout=node_8x80gb_dedicated", "trainer.total_training_steps=10"])
    assert planned["full_opd"]["flop"] == plan(full).as_dict()["flop"]
    ratio = planned["full_opd"]["flop"]["paper"]["total"] / planned["flop"]["paper"]["total"]
    assert planned["full_opd"]["times_this_run"]["paper"] == pytest.approx(ratio)


def test_the_longest_step_is_told_by_phase():
    full = plan(compose(["experiment=qwen3_8b/full", "layout=node_8x80gb", "trainer.total_training_steps=2"])).as_dict()
    longest = full["longest_step"]
    assert longest["step"] == 1 and longest["prefix_length"] == 16384
    assert longest["seconds"] == pytest.approx({phase: 3600 * hours / 2 for phase, hours in full["hours"].items()})
    grows = plan(compose(["experiment=qwen3_8b/schedule", "layout=node_8x80gb"])).as_dict()
    assert grows["longest_step"]["step"] == grows["run"]["updates"]
    assert grows["longest_step"]["prefix_length"] == grows["run"]["last_cap"]


def test_memory_by_hand(planned):
    student = planned["memory_gib"]["student"]
    # 8 190 427 136 parameters, 16 bytes each, 4 ranks
    assert student["update"]["states"] == pytest.approx(8_190_427_136 * 16 / 4 / 2**30)
    # micro-batches of 18 432 tokens
    assert student["logits"] == pytest.approx(18432 * 151936 * 2 / 2**30)
    # 512 rollouts of an engine, 456 tokens, 2 * 36 layers * 8 heads * 128 * 2 bytes
    assert student["kv_cache"] == pytest.approx(512 * 456 * 147456 / 2**30)
    assert planned["memory_gib"]["teacher"]["logits"] == pytest.approx(9.27, abs=0.01)


def test_memory_of_a_lora_student_by_hand(planned):
    config = compose(["experiment=qwen3_8b/lora_schedule", "layout=node_8x80gb_dedicated"])
    found = plan(config).as_dict()
    # a layer: q and o 4096 + 4096, k and v 4096 + 1024, three of 4096 + 12288; rank 32, 36 layers
    adapter = 32 * 36 * (2 * 8192 + 2 * 5120 + 3 * 16384)
    assert found["run"]["adapter_parameters"] == adapter == 87_293_952
    student = found["memory_gib"]["student"]
    # fp32, 4 ranks: the weights once; the adapter, its gradients and its two moments
    assert student["update"]["states"] == pytest.approx((8_190_427_136 + 4 * adapter) * 4 / 4 / 2**30)
    engine = (8_190_427_136 + adapter) * 2 / 2**30
    assert student["engine"]["weights"] == pytest.approx(engine)
    # asleep, each of the 4 engines keeps its base in host memory; all states but the gradients are offloaded too
    assert found["memory_gib"]["host"] == {
        "trainer_offloaded": pytest.approx((8_190_427_136 + 3 * adapter) * 4 / 2**30),
        "student_asleep": pytest.approx(4 * engine),
        "teacher_asleep": 0.0,
    }
    assert planned["run"]["adapter_parameters"] == 0
    prefix = ["prefix_opd.schedule.name=constant", "prefix_opd.schedule.length=256", "trainer.total_training_steps=10"]
    update = plan(compose(["experiment=qwen3_8b/lora_schedule", *prefix])).as_dict()["flop"]["exact"]["update"]
    # 456 tokens: 4 per frozen weight, 6 per weight of the adapter, 6 * 456 * 128 * 32 * 36 of attention
    attention = 6 * 456 * 128 * 32 * 36
    ours, all_weights = 4 * 8_190_427_136 + 6 * adapter + attention, 6 * 8_190_427_136 + attention
    assert update / planned["flop"]["exact"]["update"] == pytest.approx(ours / all_weights)


def test_on_one_card_of_80_gb_8b_fits_as_an_adapter_alone():
    notes = {
        kind: plan(compose([f"experiment=qwen3_8b/{kind}schedule", "layout=one_gpu"])).notes for kind in ("", "lora_")
    }
    assert "exceeds" in " ".join(notes[""]) and "exceeds" not in " ".join(notes["lora_"])


def test_throughput_is_what_the_user_states(node):
    stated = Assumptions(tflops={"sampling": 31.2}, utilisation={"update": 0.5}, accelerator="h100")
    said = plan(node, stated).as_dict()["assumptions"]
    assert said["tflops_per_gpu"]["sampling"] == pytest.approx(31.2)
    assert said["tflops_per_gpu"]["update"] == pytest.approx(0.5 * 989)


def test_a_model_folder_of_ones_own(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "hidden_size": 8}))
    config = compose(["experiment=qwen3_8b/full", f"actor_rollout_ref.model.path={tmp_path}"])
    with pytest.raises(UserError, match="its config.json lacks 'intermediate_size'"):
        plan(config)


def test_the_miniature_can_be_planned():
    found = plan(compose(["experiment=tiny/schedule"])).as_dict()
    assert found["assumptions"]["accelerator"] == "cpu"
    assert found["assumptions"]["mean_prompt"] == 16


# ---- the command ----


def test_the_command_prints_one_json_object():
    result = run("experiment=qwen3_8b/prefix_256", "trainer.total_training_steps=10", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["flop"]["paper"]["total"] == pytest.approx(5.7e17, rel=0.1)


def test_the_command_prints_tables():
    result = run("experiment=qwen3_8b/schedule", "layout=node_8x80gb")
    assert result.exit_code == 0
    assert "full OPD" in result.stdout and "teacher scores" in result.stdout
    assert "prefix 2048" in run("--paper").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accelerator", "tpu"], "--accelerator tpu: is not one of a100, h100"),
        (["--tflops", "decode=3"], "--tflops decode=3.0: the phases are sampling"),
        (["--tflops", "sampling"], "--tflops sampling: is not PHASE=NUMBER"),
        (["--utilisation", "update=35"], "--utilisation update=35.0: must be above 0 and at most 1"),
        (["--mean-prompt", "0"], "--mean-prompt 0.0: must be above 0"),
        (["--mean-response", "0.5"], "--mean-response 0.5: must be at least 1"),
        (["--response-histogram", "/no/such.json"], "--response-histogram /no/such.json: does not exist"),
        (["--mean-response", "9", "--response-histogram", "x"], "--mean-response: is given with"),
        (["actor_rollout_ref.model.path=null"], "actor_rollout_ref.model.path: is not set"),
        (["trainer.total_training_steps=0"], "trainer.total_training_steps=0: must be a whole number of at least 1"),
        (["actor_rollout_ref.model.path=/no/such"], "actor_rollout_ref.model.path=/no/such: does not exist"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    result = run("experiment=qwen3_8b/prefix_256", *arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_a_teacher_elsewhere_takes_no_hours_and_no_memory_of_the_run():
    here = plan(compose(["experiment=qwen3_8b/schedule", "layout=node_8x80gb"]))
    away = ["prefix_opd.teacher.url=http://other:8000/v1"]
    elsewhere = plan(compose(["experiment=qwen3_8b/schedule", "layout=node_8x80gb", *away]))
    assert elsewhere.cost.hours["teacher_scoring"] == 0 and here.cost.hours["teacher_scoring"] > 0
    assert elsewhere.cost.flop["exact"].teacher_scoring == here.cost.flop["exact"].teacher_scoring
    assert "teacher" not in elsewhere.memory_gib and elsewhere.run["cards"] == 8
    assert elsewhere.memory_gib["host"]["teacher_asleep"] == 0
    for layout, cards in (("node_8x80gb", "8 GPUs"), ("node_8x80gb_dedicated", "4 GPUs")):
        shown = " ".join(run("experiment=qwen3_8b/schedule", f"layout={layout}", *away).stdout.split())
        assert f"; {cards}, the teacher elsewhere" in shown and "hours of teacher scoring are not counted" in shown
        assert "shared" not in shown and "follow each other" not in shown and "overlap" not in shown


def test_an_adaptive_run_has_a_range():
    found = plan(compose(["experiment=tiny/grow_reverse_kl", "trainer.total_training_steps=7"]))
    # L stays 3; or grows after 3 and 6 updates to 4 (half of 3 more, rounded down) and 6
    assert [found.courses[name].tokens["generated"] / 64 for name in ("shortest", "longest")] == [21, 3 * 3 + 3 * 4 + 6]
    assert found.longest_step["prefix_length"] == 6 and set(found.as_dict()["courses"]) == {"shortest", "longest"}
    assert "courses" not in plan(compose(["experiment=tiny/random"])).as_dict()


@pytest.mark.parametrize(("paid", "updates"), [(0.1, 1), (2.5, 3), (3.0001, 4), (99, 10)])
def test_a_budget_ends_the_plan_with_the_update_that_reaches_it(planned, paid, updates):
    each = planned["flop"]["exact"]["total"] / 10
    run = ["experiment=qwen3_8b/prefix_256", "layout=node_8x80gb_dedicated", "trainer.total_training_steps=10"]
    found = plan(compose([*run, f"prefix_opd.flop_budget={paid * each}"])).as_dict()
    assert found.keys() == planned.keys() and found["run"].keys() == planned["run"].keys()
    assert found["run"]["updates"] == updates
    share = updates / 10
    assert found["flop"]["exact"]["total"] == pytest.approx(updates * each)
    assert found["hours"]["total"] == pytest.approx(share * planned["hours"]["total"])
    assert found["tokens"] == {kind: share * count for kind, count in planned["tokens"].items()}
    full = planned["full_opd"]["flop"]["paper"]["total"]
    assert found["full_opd"]["flop"]["paper"]["total"] == pytest.approx(share * full)
    assert found["memory_gib"] == planned["memory_gib"]
    assert any(f"ends the run after {updates} of 10 updates" in note for note in found["notes"]) == (updates < 10)


def test_a_budget_ends_a_schedule_while_l_is_short():
    asked = ["experiment=tiny/schedule", "prefix_opd.schedule.increment=1"]  # L = the number of the update
    whole = plan(compose([*asked, "trainer.total_training_steps=9"]))
    first = [plan(compose([*asked, f"trainer.total_training_steps={n}"])).cost.flop["exact"].total for n in (4, 5)]
    found = plan(compose([*asked, "trainer.total_training_steps=9", f"prefix_opd.flop_budget={sum(first) / 2}"]))
    assert (whole.run["updates"], whole.run["last_cap"], whole.longest_step["step"]) == (9, 9, 9)
    assert (found.run["updates"], found.run["last_cap"], found.run["most_cap"]) == (5, 5, 5)
    assert found.longest_step["step"] == 5 and found.cost.flop["exact"].total == pytest.approx(first[1])
    # the courses of an adaptive L end at the budget, too: 3 tokens, then 4
    adaptive = ["experiment=tiny/grow_reverse_kl", "trainer.total_training_steps=7"]
    each = plan(compose(adaptive)).courses["shortest"].flop["exact"].total / 7
    courses = plan(compose([*adaptive, f"prefix_opd.flop_budget={3.01 * each}"])).courses
    assert [courses[name].tokens["generated"] / 64 for name in ("shortest", "longest")] == [4 * 3, 3 * 3 + 4]


def test_no_update_takes_less_than_one_with_a_token_a_prompt_and_a_rollout():
    # 64 rollouts of 2 tokens; of a token 2 passes of 2 FLOP a weight and one of 6, and attention to 2 tokens likewise
    # in 4 layers with 4 heads of 32
    assert least_update(compose(["experiment=tiny/full"])) == 64 * 2 * 10 * (279_552 + 2 * 4 * 4 * 32)
    budget = "prefix_opd.flop_budget=1e9"  # an update of rollouts at the cap takes 5.1e10
    check(compose(["experiment=tiny/full", budget]))
