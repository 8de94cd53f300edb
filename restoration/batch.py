"""python -m restoration.batch: see restoration/commands/batch.py."""

import sys

from restoration.commands.batch import main

if __name__ == "__main__":
    sys.exit(main())
