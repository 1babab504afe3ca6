"""A run that can only wait for a process ends with one line that names it."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from prefix_opd import launch
from prefix_opd.checks import cluster

cluster.needed_cpus = lambda config: 2  # as if the count were wrong
sys.exit(launch.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_start_up_that_waits_for_ever_ends_with_what_it_waits_for(tmp_path):
    overrides = ["experiment=tiny/full", "ray_kwargs.ray_init.num_cpus=2", "prefix_opd.start_up_seconds=10"]
    command = [sys.executable, "-c", SCRIPT, *overrides, f"trainer.default_local_dir={tmp_path / 'run'}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    told = ran.stderr.rstrip().rpartition("\n")[2]
    assert ran.returncode == 3, ran.stderr[-3000:]
    assert told.startswith("stopped: the start-up made no progress in 10 s after "), told
    assert "no place in Ray for " in told and "a group of workers (3 CPU, 1 GPU); free are " in told, told
    assert " of 2 CPUs and 2 of 2 GPUs: raise ray_kwargs.ray_init.num_cpus" in told, told
