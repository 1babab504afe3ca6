"""One short run of the real program: verl, Ray, FSDP2 and two vLLM engines, killed in the middle and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefix_opd.runlog import read_metrics

pytestmark = pytest.mark.e2e

STEPS, INCREMENT, ROLLOUTS = 4, 12, 16
OVERRIDES = [
    "experiment=tiny/schedule",
    f"prefix_opd.schedule.increment={INCREMENT}",
    f"trainer.total_training_steps={STEPS}",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
    "data.train_batch_size=8",
    "actor_rollout_ref.rollout.n=2",
    "data.val_max_samples=32",
    "trainer.logger=[console,tensorboard]",
]
CAPS = {step: 1 + INCREMENT * (step - 1) for step in range(1, STEPS + 1)}


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "prefix_opd.cli", "train", *OVERRIDES]
    environment = {**os.environ, "TENSORBOARD_DIR": str(folder / "tensorboard")}
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_step(run: Path, step: int, process: subprocess.Popen, seconds: int = 240) -> None:
    deadline = time.time() + seconds
    while time.time() < deadline:
        if any(line["step"] >= step for line in read_metrics(run)):
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    raise AssertionError(f"step {step} did not come in {seconds} s")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that was killed after its third step and started again."""
    folder = tmp_path_factory.mktemp("end_to_end")
    run = folder / "outputs" / "tiny_schedule"
    first = start(folder)
    wait_for_step(run, 3, first)
    before = [line for line in read_metrics(run) if line["step"] <= 2]
    for pid in children(first.pid):
        os.kill(pid, signal.SIGKILL)
    told = first.communicate(timeout=60)[0]
    assert first.returncode != 0 and "start the same command again" in told
    second = start(folder)
    told = second.communicate(timeout=300)[0]
    assert second.returncode == 0, told
    return run, before, told


def test_no_step_is_doubled_or_missing_and_each_has_the_right_length(finished):
    run, before, _ = finished
    lines = list(read_metrics(run))
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert {line["step"]: line["prefix_opd/prefix_length"] for line in lines[1:]} == CAPS
    assert lines[:3] == before, "what the checkpoint knew was written anew"


def test_rollouts_end_at_the_cap_or_by_themselves(finished):
    lines = list(read_metrics(finished[0]))[1:]
    for line in lines:
        cap = CAPS[line["step"]]
        assert line["prefix_opd/response_length/max"] <= cap
        shares = [line[f"prefix_opd/ending/{name}_fraction"] for name in ("cut", "natural", "other")]
        assert sum(shares) == pytest.approx(1) and shares[2] == 0
        # every cut rollout has exactly L tokens; at L = 1 all of them have
        assert line["prefix_opd/tokens/generated"] >= shares[0] * ROLLOUTS * cap
    assert lines[0]["prefix_opd/tokens/generated"] == ROLLOUTS


def test_validation_answers_are_longer_than_the_prefix(finished):
    run, _, _ = finished
    answers = [json.loads(line) for line in (run / "validation" / "0.jsonl").open()]
    assert len(answers) == 32
    assert max(answer["response_length"] for answer in answers) > max(CAPS.values())
    assert all(answer["graded_by"] == "tiny" for answer in answers)


def test_sampler_and_trainer_agree_on_every_log_prob(finished):
    for line in list(read_metrics(finished[0]))[1:]:
        assert line["prefix_opd/log_prob_diff/abs_max"] < 1e-3
        assert line["prefix_opd/ratio/mean"] == pytest.approx(1, abs=1e-3)


def test_the_student_moves_towards_the_teacher(finished):
    first = list(read_metrics(finished[0]))[1]
    # at L = 1 the teacher abhors the quick method that four answers in five begin with
    assert first["prefix_opd/reverse_kl/mean"] > 1
    assert first["actor/grad_norm"] > 0


def test_the_ledger_survives_the_kill(finished):
    lines = list(read_metrics(finished[0]))[1:]
    for kind in ("exact", "paper"):
        total = 0.0
        for line in lines:
            total += line[f"prefix_opd/flops_{kind}/total"]
            assert line[f"prefix_opd/flops_{kind}/so_far"] == pytest.approx(total)


def test_the_run_ends_with_a_table_and_a_picture(finished):
    run, _, told = finished
    assert "student after" in told and "full OPD, the same updates" in told
    assert (run / "accuracy_and_prefix.png").stat().st_size > 10_000
    assert list((run.parent.parent / "tensorboard").glob("events*")), "verl's trackers got nothing"


def test_the_checkpoint_becomes_a_model(finished):
    run, _, _ = finished
    exported = subprocess.run(
        [sys.executable, "-m", "prefix_opd.cli", "export", str(run)], capture_output=True, text=True
    )
    assert exported.returncode == 0, exported.stderr
    folder = Path(exported.stdout.strip().splitlines()[-1])

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "7 a+3 b-5"}], add_generation_prompt=True, tokenize=False
    )
    assert prompt.endswith("<think>")
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([tokenizer.encode(prompt)])
    answer = model.generate(ids, max_new_tokens=100, do_sample=False)[0, ids.shape[1] :]
    # it stops by itself, on the student's or the teacher's end token
    assert len(answer) < 100 and answer[-1].item() in model.generation_config.eos_token_id

    before = AutoModelForCausalLM.from_pretrained(_shipped_student())
    moved = [(a - b).abs().max().item() for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert 0 < max(moved) < 0.1, "four small steps away from the student that it started as"


def _shipped_student():
    from prefix_opd.tiny import shipped_models

    return shipped_models()["student"]
