"""Runs on a SLURM cluster: `fit.sbatch` is one run, `array.sbatch` a grid of them; `requeue.py` continues both.

What a job asks the cluster for is a change of the batch scripts; how grids are submitted, of `ablation/array.py`.
"""

from pathlib import Path

SBATCH = Path(__file__).with_name("fit.sbatch")  # ready to copy
ARRAY = Path(__file__).with_name("array.sbatch")  # of `cct ablate --slurm`
