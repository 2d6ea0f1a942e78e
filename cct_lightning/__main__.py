"""`python -m cct_lightning` is `cct`."""

import sys

from cct_lightning.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
