"""Loaded by ``import verl`` in every process of everybody who has this package: acts in runs of ours alone.

verl swallows what a plugin raises, so a failure is told here.
"""

import os
import sys
import traceback

from prefix_opd import RUN

if os.environ.get(RUN):
    try:
        from prefix_opd.verl_plugin import our_run

        our_run.join()
    except Exception:
        print("prefix_opd: its patches of verl could not be installed, the run will fail without:", file=sys.stderr)
        traceback.print_exc()
        raise
