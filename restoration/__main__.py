"""python -m restoration PHOTO --task TASK -o OUT.png"""

import sys

from restoration.commands.restore import main

if __name__ == "__main__":
    sys.exit(main())
