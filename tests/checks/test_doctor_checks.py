"""Each check passes on the miniature, and fails or warns on a pair that was made bad for it."""

import json

import pytest
import torch
from chat_templates import PLAIN
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, write_model

from prefix_opd.base.errors import UserError
from prefix_opd.checks import models, room, versions
from prefix_opd.checks.doctor import ALL, QUICK, Status, accepted, look, worst
from prefix_opd.checks.engines import _request
from prefix_opd.config.decoder import DENSE_FAMILIES
from prefix_opd.config.keys import STUDENT_KEY as STUDENT
from prefix_opd.config.keys import TEACHER_KEY as TEACHER
from prefix_opd.config.models import Model
from prefix_opd.cost.arithmetic import stored_parameters
from prefix_opd.miniature import shipped_models

OTHER = PLAIN.replace("assistant", "system") + "{%- endif -%}"


def one(check, case):
    (finding,) = look([("check", check)], case)
    return finding


def test_the_miniature_is_well(case):
    found = look(ALL, case())
    assert worst(found) is not Status.FAIL, [finding for finding in found if finding.status is not Status.OK]
    assert [finding.check for finding in found] == [name for name, _ in ALL]
    assert {name for name, _ in QUICK} < {name for name, _ in ALL}


def test_what_train_rejects_is_a_finding(case):
    assert one(accepted, case()).status is Status.OK
    finding = one(accepted, case("trainer.logger=[consol]"))
    assert finding.status is Status.FAIL and "trainer.logger" in finding.reason and finding.remedy


def test_each_prompt_of_the_engines_has_its_own_seed(case):
    """With one seed for all, vLLM draws the same random number at the same position of every answer."""
    opened = case()
    request = _request(
        opened, "student", opened.student, opened.config.actor_rollout_ref.rollout, [[1], [2], [3]], None
    )
    assert len(set(request["seeds"])) == 3 and "seed" not in request["sampling"]


# ---- vocabulary ----


def swap_two_tokens(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary_ = tokenizer["model"]["vocab"]
    first, second = (next(token for token, index in vocabulary_.items() if index == i) for i in (97, 98))
    vocabulary_[first], vocabulary_[second] = 98, 97
    path.write_text(json.dumps(tokenizer))


def test_a_permuted_vocabulary_fails_with_its_first_difference(case, model):
    teacher = model("teacher")
    swap_two_tokens(teacher)
    finding = one(models.same_ids, case(f"{TEACHER}={teacher}"))
    assert finding.status is Status.FAIL and "differs from the teacher's at id 97" in finding.reason
    assert finding.remedy


def test_a_token_that_is_special_for_one_alone_is_named(case, model):
    teacher = model("teacher")
    path = teacher / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tag = next(token for token in tokenizer["added_tokens"] if token["content"] == "<think>")
    tag["special"] = True
    path.write_text(json.dumps(tokenizer))
    finding = one(models.same_special_tokens, case(f"{TEACHER}={teacher}"))
    assert finding.status is Status.WARN
    assert "the plain token '<think>' for the student and the special token '<think>' for the teacher" in finding.reason


def test_spare_embedding_rows_are_counted_in_nats(case, model):
    tokens = len(case().student.tokenizer)
    student = model("student", config={"vocab_size": round(tokens * 1.25)})
    finding = one(models.embedding_rows, case(f"{STUDENT}={student}"))
    assert finding.status is Status.FAIL and f"weights have {tokens} embedding rows, its config.json says 330" in (
        finding.reason
    )
    (student / "model.safetensors").unlink()  # not at hand: then the config is believed
    finding = one(models.embedding_rows, case(f"{STUDENT}={student}"))
    # log(330 / 264) = log 1.25
    assert finding.status is Status.WARN and "0.2231 nats below" in finding.reason
    teacher = model("teacher", config={"vocab_size": tokens - 1})
    (teacher / "model.safetensors").unlink()
    finding = one(models.embedding_rows, case(f"{TEACHER}={teacher}"))
    assert finding.status is Status.FAIL and f"has {tokens - 1} embedding rows for {tokens} tokens" in finding.reason


def test_embedding_rows_are_read_from_the_weights(case, model):
    tokens = len(case().student.tokenizer)
    student = model("student", config={"vocab_size": 2 * tokens})
    rows = torch.zeros(2 * tokens, 4)
    save_file({"model.norm.weight": torch.ones(4), "model.embed_tokens.weight": rows}, student / "model.safetensors")
    finding = one(models.embedding_rows, case(f"{STUDENT}={student}"))
    assert finding.status is Status.WARN and f"student {tokens} spare rows of {2 * tokens}" in finding.reason
    (student / "model.safetensors").write_bytes(b"\xff" * 40)
    finding = one(models.embedding_rows, case(f"{STUDENT}={student}"))
    assert finding.status is Status.FAIL and "is not a whole safetensors file" in finding.reason


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"hidden_act": "foo"}, "transformers does not build the model of its config.json (KeyError: 'foo"),
        ({"rope_scaling": {"type": "foo"}}, "transformers does not build the model of its config.json ("),
        ({"attention_bias": True}, "model.layers.0.self_attn.q_proj.bias is missing in its weights, and [128] by its"),
        ({"pad_token_id": 999}, ""),  # verl gives the model the tokenizer's
    ],
)
def test_a_config_that_does_not_describe_the_weights_fails(case, model, changed, line):
    finding = one(models.sizes_of_weights, case(f"{STUDENT}={model('student', config=changed)}"))
    assert finding.status is (Status.FAIL if line else Status.OK) and line in finding.reason


def test_weights_that_are_missing_or_left_over_fail(case, model):
    """transformers would draw a missing one at random, and vLLM does not start with one that it does not know."""
    student = model("student")
    weights = load_file(student / "model.safetensors")
    norm = "model.norm.weight"
    for changed, line in {
        "without": f"{norm} is missing in its weights, and [64] by its config.json",
        "more": "value.weight is in its weights, and not by its config.json",
        "rotary": "",
    }.items():
        kept = {name: one for name, one in weights.items() if changed != "without" or name != norm}
        kept |= {"value.weight": torch.ones(1)} if changed == "more" else {}
        kept |= {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(1)} if changed == "rotary" else {}
        save_file(kept, student / "model.safetensors", metadata={"format": "pt"})
        finding = one(models.sizes_of_weights, case(f"{STUDENT}={student}"))
        assert finding.status is (Status.FAIL if line else Status.OK) and line in finding.reason


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_every_dense_family_is_described_by_its_config(family, tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, family, {"model_type": family, "tie_word_embeddings": family == "qwen2"})
    models.check_sizes(Model("student", str(write_model(tmp_path, family))))


def test_weights_as_pickles_alone_fail(case, model):
    assert one(models.safe_weights, case()).status is Status.OK
    student = model("student")
    (student / "model.safetensors").rename(student / "pytorch_model.bin")
    assert one(models.safe_weights, case(f"{STUDENT}={student}")).status is Status.FAIL


def test_end_tokens(case, model):
    student = model("student", generation_config={"eos_token_id": 259})
    teacher = model("teacher", generation_config={"eos_token_id": 261})
    pair = [f"{STUDENT}={student}", f"{TEACHER}={teacher}"]
    both = one(models.end_tokens, case(*pair))
    assert both.status is Status.WARN and "the teacher never samples the student's own end token" in both.reason
    assert "--engines counts how the teacher's texts end" in both.reason and both.remedy
    alike = one(models.end_tokens, case())
    assert alike.status is Status.OK and "--engines counts" in alike.reason
    alone = one(models.end_tokens, case(*pair, "prefix_opd.rollout.stop=student"))
    assert alone.status is Status.WARN and "the student cannot learn to end as the teacher does" in alone.reason
    theirs = one(models.end_tokens, case(*pair, "prefix_opd.rollout.stop=teacher"))
    assert theirs.status is Status.WARN and "the student continues after its own end token" in theirs.reason
    never = one(models.end_tokens, case(*pair, "prefix_opd.rollout.stop=[]"))
    assert never.status is Status.FAIL and "they never end" in never.reason


# ---- room ----


@pytest.mark.parametrize(
    ("check", "overrides", "told"),
    [
        (room.tokens, ["actor_rollout_ref.rollout.max_model_len=224"], "has no room for prompt + response + 1"),
        (
            room.tokens,
            ["distillation.teacher_models.teacher_model.inference.max_model_len=224"],
            "teacher_model.inference.max_model_len=224: has no room",
        ),
        (room.sampling, ["actor_rollout_ref.rollout.top_p=0.9"], "top_p=0.9: must be 1.0"),
        (room.batches, ["trainer.n_gpus_per_node=3"], "do not divide among 3 ranks"),
        (room.probe, ["distillation.distillation_loss.loss_mode=forward_kl_topk", "prefix_opd.probe.every=1"], "needs"),
        (room.folder, ["trainer.resume_mode=resume_path"], "needs the path of a checkpoint"),
        (room.loss, ["distillation.distillation_loss.loss_mode=k1", "prefix_opd.loss.max_ratio=2"], "is not read by"),
    ],
)
def test_what_preflight_refuses_is_a_fail(case, check, overrides, told):
    assert one(check, case()).status is Status.OK
    finding = one(check, case(*overrides))
    assert finding.status is Status.FAIL and told in finding.reason


def test_memory_that_does_not_fit_is_told_with_the_key_to_lower(case):
    assert one(room.memory, case()).status is Status.OK
    large = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100000000"
    finding = one(room.memory, case(large, "actor_rollout_ref.rollout.n=1000000"))
    assert finding.status is Status.WARN and "ppo_max_token_len_per_gpu" in finding.remedy


def test_disk_counts_weights_and_moments_of_every_checkpoint(case, monkeypatch):
    steps = ["trainer.total_training_steps=100", "trainer.save_freq=10"]
    assert one(room.disk, case(*steps)).reason.startswith("10 checkpoints of ")
    opened = case(*steps, "prefix_opd.checkpoint.keep_last=4")
    fine = one(room.disk, opened)
    # the last 4, the best, and the new one that is whole before an old one goes
    assert fine.status is Status.OK and fine.reason.startswith("6 checkpoints of ")
    one_checkpoint = 12 * stored_parameters(opened.student.shape, tied=True)  # 4 bytes x (1 weight + 2 moments)
    usage = type("Usage", (), {"free": 4.5 * one_checkpoint})
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: usage)
    some = one(room.disk, opened)
    assert some.status is Status.WARN and some.remedy == "set prefix_opd.checkpoint.keep_last=2"
    usage.free = 1.5 * one_checkpoint
    none = one(room.disk, opened)
    assert none.status is Status.WARN and "set trainer.default_local_dir elsewhere" in none.remedy
    usage.free = one_checkpoint / 2
    assert one(room.disk, opened).status is Status.FAIL
    assert "no checkpoint" in one(room.disk, case("trainer.save_freq=-1")).reason


def test_disk_counts_the_adapter_of_a_lora_student_alone(case):
    lora = ["trainer.total_training_steps=10", "trainer.save_freq=10", "actor_rollout_ref.model.lora_rank=16"]
    # tests/method/test_lora.py: 90 112 numbers; 4 bytes x (1 weight + 2 moments)
    assert one(room.disk, case(*lora)).reason.startswith(f"1 checkpoints of {12 * 90_112 / 2**30:.3g} GiB")
    whole = case(*lora, "actor_rollout_ref.actor.checkpoint.save_lora_only=false")
    frozen = stored_parameters(whole.student.shape, tied=False)
    assert one(room.disk, whole).reason.startswith(f"1 checkpoints of {(12 * 90_112 + 4 * frozen) / 2**30:.3g} GiB")


# ---- versions ----


def test_another_version_is_named(case, monkeypatch):
    assert one(versions.pinned_packages, case()).status is Status.OK
    monkeypatch.setattr(versions, "_installed", lambda name: "0.1")
    finding = one(versions.pinned_packages, case())
    assert finding.status is Status.WARN and "ray 0.1 (tested " in finding.reason


def test_another_verl_fails(case, monkeypatch):
    assert one(versions.verl_release, case()).status is Status.OK
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "0.8.0")
    assert one(versions.verl_release, case()).status is Status.FAIL


# ---- what cannot be looked at is bad input ----


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (f"{STUDENT}=/no/such/model", "does not exist"),
        ("data.val_files=/no/such.parquet", "does not exist"),
        ("data.train_files=null", "is not set"),
        ("prefix_opd.schedule.start=0", "greater than or equal to 1"),
    ],
)
def test_bad_input_is_no_finding(case, override, told):
    with pytest.raises(UserError, match=told):
        case(override)


def test_a_model_without_a_chat_template_is_bad_input(case, model):
    student = model("student")
    (student / "chat_template.jinja").unlink()
    assert shipped_models()["student"].name == student.name
    with pytest.raises(UserError, match="has no chat template"):
        case(f"{STUDENT}={student}")
