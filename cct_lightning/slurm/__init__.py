"""A batch script for SLURM clusters, ready to copy: `SBATCH` is its path."""

from pathlib import Path

SBATCH = Path(__file__).with_name("fit.sbatch")
