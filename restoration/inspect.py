"""python -m restoration.inspect: see restoration/commands/inspect.py."""

import sys

from restoration.commands.inspect import main

if __name__ == "__main__":
    sys.exit(main())
