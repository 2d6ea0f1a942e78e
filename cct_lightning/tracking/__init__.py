"""Weights & Biases, and what the terminal shows."""
