"""Experiments: grids of runs, their comparison, their report."""
