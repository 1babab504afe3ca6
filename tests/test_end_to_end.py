"""One short run of the real program: verl, Ray, FSDP2 and two vLLM engines, killed in the middle and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.harness import Run, differences
from listed import is_listed
from sockets import listening

from prefix_opd.base.files import read_lines
from prefix_opd.method import names
from prefix_opd.run.checkpoints import damage, newest_whole
from prefix_opd.run.events import EVENTS_FILE, MILESTONE
from prefix_opd.run.log import read_metrics
from prefix_opd.run.samples import read_samples
from prefix_opd.run.stopping import EXIT_ASKED

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
    "prefix_opd.probe.every=2",
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
    """The folder of a run that was killed after its third step and restarted."""
    folder = tmp_path_factory.mktemp("end_to_end")
    run = folder / "outputs" / "tiny_schedule"
    first = start(folder)
    wait_for_step(run, 3, first)
    (folder / "listening.json").write_text(json.dumps(listening(first.pid)))
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


def test_a_run_on_one_machine_listens_on_the_loopback_alone(finished):
    found = json.loads((finished[0].parents[1] / "listening.json").read_text())
    names = " ".join(name for names in found.values() for name in names)
    assert "gcs_server" in names and "vLLMHttpServer" in names and "TransferQueueController" in names
    assert set(found) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, found


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


def test_every_metric_of_ours_stands_in_the_list(finished):
    ours = {name for line in read_metrics(finished[0]) for name in line if name.startswith(names.OURS)}
    assert len(ours) > 80 and [name for name in ours if not is_listed(name)] == []


def test_each_start_leaves_its_milestones(finished):
    """The second start resumes from the checkpoint of step 2."""
    events = [event for event in read_lines(finished[0] / EVENTS_FILE) if event["kind"] == MILESTONE]
    assert [event["step"] for event in events] == [None, None, 0, None, None, 2]
    assert (
        [event["text"] for event in events[:3]]
        == [event["text"] for event in events[3:]]
        == [
            "starting workers and engines",
            "student's trainer is ready, waiting for the engines",
            "engines are ready, sending weights and validating",
        ]
    )


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


SHARED = [
    "prefix_opd.teacher.placement=shared",
    "prefix_opd.teacher.phases=turns",
    "prefix_opd.probe.every=2",
    "ray_kwargs.ray_init.num_gpus=1",
]


def test_a_teacher_on_the_students_gpu_teaches_the_same_in_turns(finished, tmp_path):
    """The run is killed only after the steps that are compared. It then resumes, and ends when it is asked to."""
    whole = Run(tmp_path, [*SHARED, "trainer.total_training_steps=60", "trainer.save_freq=4"]).start()
    whole.wait_for_step(STEPS + 1)
    whole.kill("driver")
    assert "start the same command again" in whole.told()
    assert differences(finished[0], whole.outputs, upto=STEPS) == {}
    for line in list(read_metrics(whole.outputs))[1:]:
        assert line["prefix_opd/seconds/overlap"] == 0, "no rollout was scored before the last one ended"
    whole.overrides = [*whole.overrides, "trainer.save_freq=50"]
    reached = whole.steps()[-1]
    whole.start()
    whole.wait_for_step(reached + 1)
    whole.process.send_signal(signal.SIGTERM)
    told = whole.told()
    assert whole.process.returncode == EXIT_ASKED, told
    last = whole.steps()[-1]
    assert f"ended after step {last} as asked, with a checkpoint" in told
    assert whole.steps() == list(range(last + 1)) and last < 60
    # it was no step to save at: its checkpoint is there because the run was asked to end
    assert newest_whole(whole.outputs).name == f"global_step_{last}"
    assert damage(whole.outputs / f"global_step_{last}") is None
    assert whole.left_behind() == {}


def test_every_token_is_counted_at_its_position(finished):
    for line in list(read_metrics(finished[0]))[1:]:
        counts = {
            group: sum(v for k, v in line.items() if k.startswith(f"prefix_opd/tokens_by_position/{group}/"))
            for group in ("all", "cut", "natural")
        }
        assert counts["all"] == counts["cut"] + counts["natural"] == line["prefix_opd/tokens/trained"]


def test_the_probe_looks_beyond_the_cap_and_survives_the_kill(finished):
    probed = [line for line in read_metrics(finished[0]) if "prefix_opd/probe/flops_exact" in line]
    assert [line["step"] for line in probed] == [1, 3, 4]
    spent = 0.0
    for line in probed:
        spent += line["prefix_opd/probe/flops_exact"]
        # of which the step after the kill knows what was spent before it
        assert line["prefix_opd/probe/flops_exact/so_far"] == pytest.approx(spent)
        assert line["prefix_opd/probe/response_length/mean"] > line["prefix_opd/prefix_length"]
    assert probed[0]["prefix_opd/probe/tail_ratio"] == 1.0
    assert probed[-1]["prefix_opd/probe/tail_ratio"] != 1.0


def test_a_few_answers_are_kept_token_by_token(finished):
    kept = list(read_samples(finished[0]))
    assert [(step, kind) for step, kind in dict.fromkeys((one.step, one.kind) for one in kept)] == [
        (1, "probe"),
        (1, "train"),
        (3, "probe"),
        (4, "probe"),
        (4, "train"),
    ]
    for one in kept:
        assert one.prefix_length == CAPS[one.step] and one.prompt.endswith("<think>")
        assert len(one.tokens) == len(one.log_p) == len(one.log_q) == len(one.ids)
        assert one.kind == "probe" or len(one.ids) <= one.prefix_length


def test_the_run_ends_with_a_report(finished):
    run, _, told = finished
    assert "report.html" in told
    page = (run / "report.html").read_text()
    assert "experiment=tiny/schedule" in page and "cut at L" in page and 'id="signal-abs_mean-0"' in page
    assert (run / "report_signal.png").stat().st_size > 10_000


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
        [{"role": "user", "content": "7+3-5+8:d"}], add_generation_prompt=True, tokenize=False
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
    from prefix_opd.miniature import shipped_models

    return shipped_models()["student"]
