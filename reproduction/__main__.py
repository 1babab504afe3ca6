"""``python -m reproduction``."""

import sys

from reproduction.driver import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
