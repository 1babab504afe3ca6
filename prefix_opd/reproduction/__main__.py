"""``python -m prefix_opd.reproduction``."""

import sys

from prefix_opd.reproduction.driver import main

sys.exit(main(sys.argv[1:]))
