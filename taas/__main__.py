"""`python -m taas`: the command line where the `taas` script is not installed."""

import sys

from taas.cli import main

sys.exit(main())
