"""`prefix-opd advise` on the miniature, with its real engines."""

import json
import subprocess
import sys


def test_the_advice_of_the_miniature(tmp_path):
    command = [sys.executable, "-m", "prefix_opd.cli", "advise", "experiment=tiny/schedule", "--json", "--prompts", "8"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(ran.stdout)  # the engines print nothing on stdout
    assert found["responses"] == 8 and found["shares"][-1] == 1 and found["shares"] == sorted(found["shares"])
    assert 60 < found["mean_answer"] < 150 and found["increment"] in (2, 3) and not found["refused"]
    auto, linear, full = (found["courses"][name] for name in ("auto", "linear", "full"))
    assert auto["overrides"][0] == "prefix_opd.schedule.name=auto"
    assert linear["overrides"][-1] == f"prefix_opd.schedule.increment={found['increment']}"
    assert max(auto["flops"], linear["flops"]) < full["flops"] and found["advised"] == "auto"
    assert auto["flops"] / full["flops"] < auto["signal"] < full["signal"] == 1
    assert not list(tmp_path.iterdir()), "nothing is written"
