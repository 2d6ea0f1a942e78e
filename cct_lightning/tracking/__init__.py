"""Tracking: the run folder, the environment, Weights & Biases and the CSV of metrics."""
