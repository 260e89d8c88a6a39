"""``python -m remote_gym``: the console script, for where scripts are not on the path."""

import sys

from remote_gym.cli import main

if __name__ == "__main__":
    sys.exit(main())
