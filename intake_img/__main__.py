"""``python -m intake_img``: the command ``intake-img``."""

import sys

from intake_img.doors.cli import main

if __name__ == "__main__":
    sys.exit(main())
