"""python -m restoration.benchmark: see restoration/commands/benchmark.py."""

import sys

from restoration.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
