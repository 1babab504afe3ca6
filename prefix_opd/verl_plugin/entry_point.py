"""Imported by ``import verl`` in every process of an environment with this package. Acts only in runs of this package.

verl swallows exceptions of plugins, so this module prints them.
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
        print("prefix_opd: its patches of verl could not be installed; a run without them fails:", file=sys.stderr)
        traceback.print_exc()
        raise
