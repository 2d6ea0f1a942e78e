"""Grids of runs: the file, the plan, the engine that trains them."""
