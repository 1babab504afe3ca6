"""The doctor with real engines: two vLLM engines and the trainer's forward pass, on the miniature."""

import json
import subprocess
import sys

from prefix_opd.checks import signal


def test_engines_of_the_miniature_agree(tiny_data):
    given = [f"data.train_files={tiny_data['train']}", f"data.val_files={tiny_data['test']}"]
    command = [sys.executable, "-m", "prefix_opd.cli", "doctor", "experiment=tiny/schedule", *given]
    ran = subprocess.run([*command, "--engines", "--json"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = {finding["check"]: finding for finding in json.loads(ran.stdout)}
    assert found["hooks of verl"]["status"] == "ok"
    for name, _ in signal.CHECKS:
        assert found[name]["status"] == "ok", found[name]
    # in fp32 two ways to one number differ by rounding, and by something: it was computed twice
    assert "(allowed 0.0001 mean)" in found["sampler and trainer"]["reason"]
    assert "teacher leads the student by" in found["teacher leads"]["reason"]
