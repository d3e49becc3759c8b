"""python3 -m ttybridge."""

import sys

from ttybridge.cli import main

sys.exit(main())
