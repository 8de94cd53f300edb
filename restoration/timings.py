"""python -m restoration.timings: see restoration/commands/timings.py."""

import sys

from restoration.commands.timings import main

if __name__ == "__main__":
    sys.exit(main())
