"""For `warm.py`: a process that is started with WARM_PYTHON starts its own processes with that interpreter."""

import os
import sys

sys.executable = os.environ.get("WARM_PYTHON", sys.executable)
