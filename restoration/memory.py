"""python -m restoration.memory: see restoration/commands/memory.py."""

import sys

from restoration.commands.memory import main

if __name__ == "__main__":
    sys.exit(main())
