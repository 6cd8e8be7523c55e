"""``python -m intake_img.doors.cli``: the command ``intake-img``."""

import sys

from intake_img.doors.cli import main

sys.exit(main())
