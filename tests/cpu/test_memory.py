"""Freed tensors stay with the process."""

import resource
import subprocess
import sys

FAULTS = """
import resource, sys
import torch
from prefix_opd.cpu.distributed import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    torch.ones(16, 1024, 1024)  # 64 MiB, which glibc maps anew each time
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how):
    ran = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_tensors_that_come_again_need_no_new_pages():
    pages = 20 * 64 * 2**20 // resource.getpagesize()
    assert faults("leave") - faults("keep") > pages / 2
