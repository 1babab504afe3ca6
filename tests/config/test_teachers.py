"""Several teachers by data source: entries of the config, the doctor's rows, the plan."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.case import Case
from prefix_opd.checks.data import teachers_of_sources
from prefix_opd.checks.doctor import look
from prefix_opd.checks.models import end_tokens, same_ids
from prefix_opd.checks.preflight import check
from prefix_opd.checks.run_data import sources
from prefix_opd.config.compose import compose
from prefix_opd.config.teachers import Teacher, teachers
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions
from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.data import write_data

NODE = "distillation.teacher_models"
EIGHT = [
    "experiment=qwen3_8b/full",
    "layout=node_8x80gb_dedicated",
    f"+{NODE}.large.key=mathematics",
    f"+{NODE}.large.model_path=Qwen/Qwen3-8B",
    f"+{NODE}.small.key=code",
    f"+{NODE}.small.model_path=Qwen/Qwen3-1.7B",
]


def tiny(folder, **named):
    models = shipped_models()
    given = [f"+{NODE}.{name}.{part}={value}" for name, entry in named.items() for part, value in entry.items()]
    files = write_data(folder, train=24, test=8)
    rows = pq.read_table(files["train"])
    column = pa.array([("tiny/chain", "tiny/own")[row % 3 == 0] for row in range(24)])
    pq.write_table(rows.set_column(rows.schema.get_field_index("data_source"), "data_source", column), files["train"])
    data = [f"data.train_files={files['train']}", f"data.val_files={files['test']}"]
    return compose(["experiment=tiny/prefix_24", *data, *(one.format(**models) for one in given)])


TWO = {
    "careful": {"key": "tiny/chain", "model_path": "{teacher}"},
    "own": {"key": "tiny/own", "model_path": "{student}"},
}


def test_one_teacher_takes_the_whole_pool():
    two = f"{NODE}.teacher_model.inference.tensor_model_parallel_size=2"
    (one,) = teachers(compose(["experiment=qwen3_8b/full", "layout=node_8x80gb_dedicated", two]))
    assert one == Teacher("teacher_model", "", "Qwen/Qwen3-8B", engines=2, gpus=4)


def test_several_teachers_have_the_engine_of_the_one_and_divide_its_gpus():
    config = compose([*EIGHT, f"+{NODE}.small.inference.max_num_seqs=7"])
    first = config.distillation.teacher_models.teacher_model.inference
    large, small = (config.distillation.teacher_models[name].inference for name in ("large", "small"))
    assert large == first and small.max_num_seqs == 7 and small.max_model_len == first.max_model_len
    assert teachers(config) == [
        Teacher("large", "mathematics", "Qwen/Qwen3-8B", 2, 2),
        Teacher("small", "code", "Qwen/Qwen3-1.7B", 2, 2),
    ]
    unequal = compose([*EIGHT, f"+{NODE}.large.num_replicas=3", f"+{NODE}.small.num_replicas=1"])
    assert [one.gpus for one in teachers(unequal)] == [3, 1]


def test_a_cpu_pretends_a_gpu_for_each(tmp_path):
    config = tiny(tmp_path, **TWO)
    assert [one.gpus for one in teachers(config)] == [1, 1]
    (finding,) = look([("teachers", teachers_of_sources)], Case.open(config))
    assert "the 16 rows of tiny/chain" in finding.reason and "the 8 rows of tiny/own" in finding.reason
    assert (config.distillation.n_gpus_per_node, config.ray_kwargs.ray_init.num_gpus) == (2, 3)
    assert sources(config) == {"tiny/chain": 16, "tiny/own": 8}
    settings = check(config)
    # the student and the teacher end differently; rollouts stop at any end
    assert set(Case.open(config).stop_ids) == set(settings.stop_token_ids)


def test_on_the_students_gpus_the_teachers_divide_them(tmp_path):
    shared = ["trainer.n_gpus_per_node=2", "ray_kwargs.ray_init.num_gpus=2", "prefix_opd.teacher.placement=shared"]
    config = compose(["experiment=tiny/two_teachers", *shared])
    assert [one.gpus for one in teachers(config)] == [1, 1] and config.ray_kwargs.ray_init.num_gpus == 2
    check(config)


def test_a_prompt_of_their_own_is_every_teachers(tmp_path):
    prompt = ["prefix_opd.teacher_prompt.template='{prompt}{prompt}'", "prefix_opd.teacher_prompt.max_length=64"]
    config = compose(["experiment=tiny/two_teachers", *prompt])
    check(config)
    for one in teachers(config):
        assert OmegaConf.select(config, one.inference_key).max_model_len == 64 + 192 + 1
    short = f"{NODE}.before.inference.max_model_len=225"
    with pytest.raises(UserError, match="before.inference.max_model_len=225: has no room for .* = 64 . 192 . 1 tokens"):
        check(compose(["experiment=tiny/two_teachers", *prompt, f"+{short}"]))


def test_a_teacher_of_another_vocabulary_is_named(tmp_path):
    import shutil

    folder = shutil.copytree(shipped_models()["teacher"], tmp_path / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    first, second = (next(word for word, index in words.items() if index == one) for one in (97, 98))
    words[first], words[second] = 98, 97
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = tiny(tmp_path / "data", **{**TWO, "own": {"key": "tiny/own", "model_path": str(folder)}})
    with pytest.raises(UserError, match=f"differs from the teacher's at id 97: .* of {folder}"):
        check(config)
    found = look([("vocabulary", same_ids), ("end tokens", end_tokens)], Case.open(config))
    told = {finding.check: str(finding.status) for finding in found}
    assert told["vocabulary (tiny/chain)"] == "ok" and told["vocabulary (tiny/own)"] == "fail"
    assert list(told)[2:] == ["end tokens (tiny/chain)", "end tokens (tiny/own)"]


def test_the_plan_of_two_teachers():
    alone = {
        name: plan(
            compose(
                ["experiment=qwen3_8b/full", "layout=node_8x80gb_dedicated", f"{NODE}.teacher_model.model_path={name}"]
            )
        )
        for name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-1.7B")
    }
    large, small = (one.cost.flop["exact"].teacher_scoring for one in alone.values())
    found = plan(compose(EIGHT), Assumptions(source_shares={"mathematics": 0.75, "code": 0.25}))
    told = found.as_dict()
    by_source = told["teacher_scoring_by_source"]
    assert by_source["mathematics"] == pytest.approx(0.75 * large) and by_source["code"] == pytest.approx(0.25 * small)
    flop = told["flop"]["exact"]
    assert flop["teacher_scoring"] == pytest.approx(sum(by_source.values()))
    assert flop["sampling"] == pytest.approx(alone["Qwen/Qwen3-8B"].cost.flop["exact"].sampling)
    # the larger one has 2 of the 4 GPUs and 3/4 of the rollouts: 1.5 times the hours of the run with it alone
    hours = alone["Qwen/Qwen3-8B"].cost.hours["teacher_scoring"]
    assert told["hours"]["teacher_scoring"] == pytest.approx(1.5 * hours)
    memory = told["memory_gib"]
    weights = [memory[f"teacher of {source}"]["engine"]["weights"] for source in ("mathematics", "code")]
    assert weights == pytest.approx([15.26, 3.20], abs=0.01)
    assert memory["teacher"] == memory["teacher of mathematics"]
    assert told["run"]["parameters"]["teacher of code"]["stored"] == 1_720_451_072
    assert memory["host"]["teacher_asleep"] == 0
    shared = plan(compose(["layout=node_8x80gb" if one.startswith("layout=") else one for one in EIGHT])).memory_gib
    assert shared["host"]["teacher_asleep"] == pytest.approx(4 * (15.26 + 3.20), abs=0.05)  # 8 GPUs, 4 for each
    assert any(note.startswith("shares of the rollouts: mathematics 75%, code 25%") for note in told["notes"])
