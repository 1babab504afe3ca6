"""``python -m reproduction``."""

import sys

from reproduction.driver import main

sys.exit(main(sys.argv[1:]))
