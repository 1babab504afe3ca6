"""Patches act in runs of ours alone, each can be switched off that a run can do without, and the page is theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefix_opd import RUN
from prefix_opd.base.errors import UserError
from prefix_opd.base.patching import current, original
from prefix_opd.config.compose import compose
from prefix_opd.cpu.environment import CPU_ENVIRONMENT
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.patches import BY_NAME, PATCHES
from prefix_opd.verl_plugin.patches_page import page

TARGETS = {target.where: patch.name for patch in PATCHES for target in patch.targets if target.by}

WHAT_STANDS = """
import json, sys
import verl
from prefix_opd.base.patching import current, is_replaced, original

found = {}
for where in json.loads(sys.argv[1]):
    standing = current(where)
    module = getattr(standing, "__module__", None) or type(standing).__module__
    found[where] = {"same": standing is original(where), "replaced": is_replaced(where), "module": module}
    found[where]["file"] = getattr(getattr(standing, "__code__", None), "co_filename", "")
print("FOUND" + json.dumps(found))
"""


@pytest.fixture
def packages(tmp_path):
    """A package folder in which vLLM's CPU build has the name that verl looks for, as on a GPU."""
    (folder := tmp_path / "vllm-0.28.0.dist-info").mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.28.0+cpu\n")
    return {"PYTHONPATH": str(tmp_path)}


def standing(targets, **environment):
    """What a script that only imports verl finds at ``targets``."""
    known = {name: value for name, value in os.environ.items() if name != RUN and name not in CPU_ENVIRONMENT}
    ran = subprocess.run(
        [sys.executable, "-c", WHAT_STANDS, json.dumps(targets)],
        env={**known, **environment},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.partition("FOUND")[2])


def ours(found):
    return "/prefix_opd/" in found["file"] or found["module"].startswith("prefix_opd.")


def test_a_script_of_plain_verl_gets_verls_functions(packages):
    targets = [where for where, name in TARGETS.items() if not BY_NAME[name].cpu]
    for where, found in standing(targets, **packages).items():
        assert found["same"] and not found["replaced"] and not ours(found), (where, found)


def test_a_process_of_our_run_gets_ours():
    """tests/conftest.py marks this process."""
    for where in TARGETS:
        assert current(where) is not original(where), where


def test_the_same_script_in_a_run_of_ours_gets_ours_but_for_what_is_off():
    off = ("log_probs", "agent_loops", "cpu_sampler")
    mark = ",".join(name for name in BY_NAME if name not in off)
    for where, found in standing(list(TARGETS), **CPU_ENVIRONMENT, **{RUN: mark}).items():
        acts = TARGETS[where] not in off
        assert found["replaced"] is ours(found) is acts and found["same"] is not acts, (where, found)


def test_a_process_that_others_are_forked_from_leaves_the_switches_to_them():
    program = """
from prefix_opd.base.patching import is_replaced
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.patches import BY_NAME
def acting(): return sorted(p for p in BY_NAME if any(is_replaced(t.where) for t in BY_NAME[p].targets))
our_run.begin(off=our_run.SWITCHES)
import verl.utils.torch_functional, verl.trainer.ppo.v1.trainer_base
before = acting()
our_run.begin(off=["log_probs"])
print("FOUND", before, acting())
try:
    our_run.begin(off=["trackers"])
except RuntimeError as error:
    print(error)
"""
    known = {name: value for name, value in os.environ.items() if name != RUN}
    ran = subprocess.run([sys.executable, "-c", program], env=known, capture_output=True, text=True, check=True)
    told, refused = ran.stdout.partition("FOUND")[2].splitlines()
    before, after = told.replace("] [", "]|[").split("|")
    assert not any(name in before for name in our_run.SWITCHES) and "cpu_process_group" in before
    assert "trackers" in after and "startup" in after and "log_probs" not in after
    assert refused == "patches that are to be off act in this process: trackers"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["log_prob"], r"prefix_opd.patches_off=\[log_prob\]: log_prob is not a patch; did you mean log_probs\?"),
        (["xyz"], r"prefix_opd.patches_off=\[xyz\]: xyz is not a patch; known: weight_socket, teacher_scores, "),
        (["trackers", "cpu_weights"], r": cpu_weights cannot be switched off: no weight sync would reach the engine; "),
    ],
)
def test_what_cannot_be_switched_off_is_told(asked, told):
    config = compose(["experiment=tiny/schedule", f"prefix_opd.patches_off=[{','.join(asked)}]"])
    with pytest.raises(UserError, match=told):
        our_run.switched_off(config)


@pytest.mark.parametrize("command", [["train", "--check"], ["doctor"], ["plan"]], ids=lambda words: words[0])
def test_on_the_command_line_it_is_one_line(command, tmp_path, monkeypatch, capsys):
    from prefix_opd import cli

    monkeypatch.chdir(tmp_path)
    words = [*command, "experiment=tiny/schedule", "prefix_opd.patches_off=[trakcers]"]
    monkeypatch.setattr(sys, "argv", ["prefix-opd", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err.splitlines()
    line = "error: prefix_opd.patches_off=[trakcers]: trakcers is not a patch; did you mean trackers?"
    assert ended.value.code == 2 and told == [line]
    assert not list(tmp_path.iterdir())


def test_a_config_of_an_older_version_switches_nothing_off():
    config = compose(["experiment=tiny/schedule", "~prefix_opd.patches_off"])
    assert our_run.switched_off(config) == ()


def test_rays_workers_on_other_machines_get_the_mark():
    """These workers do not inherit from the launcher, so the runtime environment carries the mark."""
    program = f"""
from prefix_opd.config.compose import compose
from prefix_opd.launch import _begin
config = compose(["experiment=tiny/schedule", "prefix_opd.patches_off=[trackers]"])
_begin(config)
print("FOUND", config.ray_kwargs.ray_init.runtime_env.env_vars.{RUN})
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = ran.stdout.partition("FOUND ")[2].strip().split(",")
    assert names == [name for name in BY_NAME if name != "trackers"]


def test_the_page_of_docs_is_made_from_the_table():
    written = (Path(__file__).parents[2] / "docs" / "patches.md").read_text()
    assert written == page(), "python -m prefix_opd.verl_plugin.patches_page > docs/patches.md"


def test_each_row_says_what_a_run_loses_or_why_it_cannot():
    for patch in PATCHES:
        assert bool(patch.without) is not bool(patch.needed), patch.name
        assert all(bool(target.by) is not bool(target.when) for target in patch.targets), patch.name
