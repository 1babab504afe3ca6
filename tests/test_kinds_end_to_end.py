"""Each kind of experiment for two updates of the real program, through the YAML that ships."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from kind_runs import LOOP, LORA, OWN, RESUMED, RUNS, SMALL
from peft import PeftModel
from tiny_models import FAMILIES, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefix_opd.evaluation.record import RESPONSES_FILE
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.lora import LINEAR, adapter_parameters
from prefix_opd.method.names import of_teachers
from prefix_opd.miniature import shipped_models
from prefix_opd.run.export import export_checkpoint
from prefix_opd.run.ledger import accuracies
from prefix_opd.run.log import read_metrics
from prefix_opd.run.samples import read_samples

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Name -> metrics of the two updates."""
    folder = tmp_path_factory.mktemp("kinds")
    shutil.copy(ROOT / "tests" / "own_method.py", folder / "my_method.py")
    shutil.copy(ROOT / "examples" / "two_turns.py", folder)
    runs = folder / "runs.json"
    planned = {name: [*overrides, *SMALL] for name, overrides in RUNS.items()}
    for family in FAMILIES:
        student, teacher = (write_model(folder / f"{family}_{seed}", family, seed) for seed in (0, 1))
        models = [
            f"actor_rollout_ref.model.path={student}",
            f"distillation.teacher_models.teacher_model.model_path={teacher}",
        ]
        planned[family] = ["experiment=tiny/prefix_24", *models, *SMALL]
    # the second goes on where the first ended
    planned |= {"own": OWN, "own_resumed": [*OWN, "trainer.total_training_steps=4"]}
    for name, overrides in (("lora", LORA), ("loop", LOOP)):
        checkpoint = f"trainer.resume_from_path={folder}/{name}/global_step_2"
        planned |= {name: overrides, f"{name}_resumed": [*overrides, *RESUMED, checkpoint]}
    runs.write_text(json.dumps(planned))
    command = [sys.executable, str(ROOT / "tests" / "warm_runs.py"), str(runs)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for name, code in json.loads((folder / "codes.json").read_text()).items():
        log = (folder / f"{name}.log").read_text()
        assert code == 0, log[-3000:]
        assert "LLMServerManager: ['127.0.0.1:" in log, "also what is forked listens on the loopback alone"
    names = (*RUNS, *FAMILIES, "own", "lora", "lora_resumed", "loop", "loop_resumed")
    return {"folder": folder} | {name: list(read_metrics(folder / name)) for name in names}


@pytest.mark.parametrize("family", FAMILIES)
def test_student_and_teacher_of_another_family(trained, family):
    for line in trained[family]:
        # the engine samples with the weights that the trainer sent, and both compute the same model
        assert line["prefix_opd/log_prob_diff/abs_mean"] < 1e-4
        assert line["actor/grad_norm"] > 0
        assert line["prefix_opd/flops_exact/teacher_scoring"] == line["prefix_opd/flops_exact/sampling"]


@pytest.mark.parametrize("name", ["two_teachers", "two_ranks"])
def test_two_teachers_each_score_the_rows_of_their_source(trained, name):
    first, second = trained[name]
    careful, own = (of_teachers(first)[source] for source in ("tiny/chain", "tiny/keep"))
    assert own["reverse_kl/abs_mean"] < 1e-4 < 0.05 < careful["reverse_kl/abs_mean"]
    assert careful["tokens"] + own["tokens"] == first["prefix_opd/tokens/scored"]
    scored = first["prefix_opd/flops_exact/teacher_scoring"]
    assert careful["flops_exact"] + own["flops_exact"] == pytest.approx(scored)
    assert of_teachers(second)["tiny/keep"]["reverse_kl/abs_mean"] > 1e-3, "the student has moved away from itself"


@pytest.mark.parametrize("name", [name for name in RUNS if name != "self"])
def test_two_updates_that_learn(trained, name):
    assert [line["step"] for line in trained[name]] == [1, 2]
    assert all(line["actor/grad_norm"] > 0 for line in trained[name])


def test_window(trained):
    assert [line["prefix_opd/prefix_length"] for line in trained["window"]] == [96, 96]


def test_last_tokens_of_full_rollouts(trained):
    for line in trained["last"]:
        assert line["prefix_opd/prefix_length"] == 192 and line["prefix_opd/ending/natural_fraction"] > 0


def test_forward_kl_over_the_teachers_top_k(trained):
    for line in trained["forward_kl"]:
        assert line["prefix_opd/prefix_length"] == 24
        assert "prefix_opd/reverse_kl/mean" not in line, "the top k need not hold the sampled token"
        assert line["actor/distillation/teacher_mass"] > 0.5


def test_generalised_jsd_over_the_teachers_top_k(trained):
    for line in trained["jsd"]:
        assert line["prefix_opd/prefix_length"] == 24 and "prefix_opd/reverse_kl/mean" not in line
        assert 0 < line["actor/distillation/student_mass"] < 1 and 0.5 < line["actor/distillation/teacher_mass"] < 1.001
        # at most log 2 a token
        assert 0 < line["actor/distillation/loss"] < 24 * 0.6932


def test_a_teacher_with_a_prompt_of_its_own(trained):
    for line in trained["self_hint"]:
        prompts = line["prefix_opd/tokens/scored"] - line["prefix_opd/tokens/generated"]
        # above each question stand 4 to 26 steps of 7 tokens, such as e+8=07; and the end of their line
        solutions = round(prompts - 8 * line["prefix_opd/prompt_length/mean"]) - 8
        assert solutions % 7 == 0 and 8 * 4 * 7 <= solutions <= 8 * 26 * 7
        assert line["prefix_opd/flops_exact/teacher_scoring"] > line["prefix_opd/flops_exact/sampling"]
    assert trained["self_hint"][0]["prefix_opd/reverse_kl/abs_mean"] > 0.05, "the solution changes the scores"
    # the same weights and the same tokens by both ways: each score is that of its token, and nothing is learnt
    assert trained["self"][0]["prefix_opd/reverse_kl/max"] < 1e-3
    assert (
        trained["self"][0]["prefix_opd/prompt_length/mean"]
        == trained["self_hint"][0]["prefix_opd/prompt_length/mean"] - 1
    )


def test_rollouts_of_the_policy_one_update_earlier(trained):
    first, second = trained["one_step_early"]
    behind = "training/off_policy/trajectory_staleness/"  # verl's own, from the weights that each rollout was made with
    assert first[behind + "max"] == 0 and second[behind + "min"] == second[behind + "max"] == 1
    moved = [line["prefix_opd/log_prob_diff/abs_mean"] for line in (first, second)]
    assert moved[1] > 20 * moved[0], "the trainer's policy is one update ahead of the one that sampled"


def test_recomputed_log_probs_two_ranks_and_several_mini_batches(trained):
    for line in trained["two_ranks"]:
        assert line["prefix_opd/flops_exact/student_scoring"] == line["prefix_opd/flops_exact/sampling"]
        # the second mini-batch meets a policy that the first one moved
        assert line["prefix_opd/log_prob_diff/abs_max"] > 1e-4


def test_a_method_of_ones_own_goes_on_where_it_stopped(trained):
    lines, grown = trained["own"], 0
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        shortest, longest = line["prefix_opd/prefix_length/min"], line["prefix_opd/prefix_length"]
        assert (shortest, longest) == (2 + grown, 3 + grown), "each row has the length that the schedule gave it"
        grown += line["prefix_opd/response_length/max"]
        assert line["critic/advantages/mean"] == pytest.approx(-0.5 * line["prefix_opd/reverse_kl/mean"], rel=1e-4)
        assert line["actor/grad_norm"] > 0
    assert lines[2]["prefix_opd/prefix_length"] > 10, "the resumed run knows what the first one observed"


def test_an_agent_loop_of_two_turns(trained):
    """L counts the student's tokens over both turns; what the tool says is context for student and teacher."""
    lines = [line for line in trained["loop"] if "prefix_opd/prefix_length" in line]
    assert [line["prefix_opd/prefix_length"] for line in lines] == [24, 64, 104, 144]
    for line in lines:
        assert line["prefix_opd/response_length/max"] <= line["prefix_opd/prefix_length"]
        generated = 16 * line["prefix_opd/response_length/mean"]
        assert line["prefix_opd/tokens/generated"] == line["prefix_opd/tokens/trained"] == generated
        context = 16 * (line["prefix_opd/prompt_length/mean"] + line["prefix_opd/tool_tokens/mean"])
        assert line["prefix_opd/tokens/scored"] == pytest.approx(context + generated)
        # trainer and sampler see each token after the same context
        assert line["prefix_opd/log_prob_diff/abs_max"] < 1e-3 and line["actor/grad_norm"] > 0
    assert all(line["prefix_opd/turns/mean"] > 1 and line["prefix_opd/tool_tokens/mean"] > 4 for line in lines[1:])
    samples = [sample for sample in read_samples(trained["folder"] / "loop") if sample.kind == "train"]
    again = [text for sample in samples if "<|im_start|>user" in (text := "".join(sample.tokens))]
    assert again and all("<|im_start|>assistant\n<think>" in text.partition("</think>")[2] for text in again)


# ---- a LoRA student ----


def test_lora_trains_the_adapter_alone(trained):
    """The engine samples from weights and adapter, and FLOP and checkpoints are those of the adapter."""
    actor, student = trained["folder"] / "lora" / "global_step_4" / "actor", shipped_models()["student"]
    shape = ModelShape.from_folder(student)
    shape = replace(shape, adapter=adapter_parameters(shape, 16, LINEAR))
    for line in trained["lora"][:4]:
        assert line["actor/grad_norm"] > 0 and line["prefix_opd/log_prob_diff/abs_max"] < 1e-3
        flops = {phase: line[f"prefix_opd/flops_exact/{phase}"] for phase in ("sampling", "update")}
        assert flops["update"] / flops["sampling"] == pytest.approx(
            shape.train_flops([48]) / shape.forward_flops([48]), rel=0.01
        )
    held = sum(path.stat().st_size for path in actor.glob("model_*.pt"))
    assert 4 * shape.adapter < held < 1.5 * 4 * shape.adapter, "the frozen weights stay where they are"
    moments = sum(path.stat().st_size for path in actor.glob("optim_*.pt"))
    assert 8 * shape.adapter < moments < 1.5 * 8 * shape.adapter


@pytest.mark.parametrize("name", ["lora", "loop"])
def test_a_run_goes_on_exactly(trained, name):
    whole, resumed = ({line["step"]: line for line in trained[run]} for run in (name, f"{name}_resumed"))
    for step in (3, 4):
        for metric in ("actor/grad_norm", "prefix_opd/reverse_kl/mean", "prefix_opd/flops_exact/so_far"):
            assert resumed[step][metric] == pytest.approx(whole[step][metric], rel=1e-6), (step, metric)


@pytest.fixture(scope="module")
def exported(trained):
    """(merged model, adapter) of the last step."""
    run = trained["folder"] / "lora"
    return export_checkpoint(run), export_checkpoint(run, adapter=True)


def test_the_merged_model_is_the_base_with_the_adapter(exported):
    merged, adapter = exported
    ids = torch.randint(0, 250, (2, 40), generator=torch.Generator().manual_seed(0))
    base = AutoModelForCausalLM.from_pretrained(shipped_models()["student"])
    with torch.no_grad():
        before = base(ids).logits
        one = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
        other = PeftModel.from_pretrained(base, adapter)(ids).logits
    assert (one - other).abs().max() < 1e-4 < (one - before).abs().max()
    for folder in exported:
        assert AutoTokenizer.from_pretrained(folder).chat_template.count("<think>") == 1
        assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"]


def test_an_exported_adapter_answers_as_the_run_did(trained, exported):
    out = trained["folder"] / "evaluated"
    command = [sys.executable, "-m", "prefix_opd.cli", "evaluate", str(exported[1]), "tiny", "--out", str(out)]
    command += ["--k", "1", "--temperature", "0"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    found = json.loads((out / "results.json").read_text())
    assert found["lora"] == "LoRA of rank 16" and found["checkpoint"].startswith(f"{exported[1]}_merged_")
    lines = (trained["folder"] / "validated" / "4.jsonl").read_text().splitlines()
    in_run = {line["input"]: line["output"] for line in map(json.loads, lines)}
    rows = [row for row in pq.read_table(out / RESPONSES_FILE).to_pylist() if row["prompt"] in in_run]
    assert len(rows) == len(in_run) == 128
    same = sum(row["response"] == in_run[row["prompt"]] for row in rows)
    assert same >= 120, f"{same} of 128 greedy answers are equal; rounding may change a few"
    accuracy = sum(row["score"] for row in rows) / 128
    assert accuracy == pytest.approx(accuracies(trained["folder"] / "lora")[4], abs=(128 - same) / 128 + 1e-9)
