"""The run folder: what it holds, who writes it, how a run continues from it."""
