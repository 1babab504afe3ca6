"""The package as a user installs it: a training run from the wheel, in a folder without a checkout."""

import json

import built_wheel


def test_two_updates_from_the_wheel(tmp_path):
    unpacked = built_wheel.build(tmp_path)
    overrides = ["experiment=tiny/schedule", "trainer.total_training_steps=2", "data.val_max_samples=32"]
    ran = built_wheel.run(unpacked, tmp_path / "empty", "-m", "prefix_opd.cli", "train", *overrides)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    run = tmp_path / "empty" / "outputs" / "tiny_schedule"
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()] == [0, 1, 2]
    assert (run / "report.html").is_file()
    log = (run / "train.log").read_text()
    assert str(built_wheel.ROOT / "prefix_opd") not in log, "a worker took the checkout's module"
