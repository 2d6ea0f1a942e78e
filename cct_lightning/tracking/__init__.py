"""Weights & Biases, and what the terminal shows of a run.

`wandb_logger.py` makes the logger (its options: `config/tracking.py`), `shield.py` keeps a run alive when W&B is lost.
`media.py` logs tables and pictures: a new picture is a registered function of `analysis`, see `analysis/pictures.py`.
`progress.py` has the bar, the line for each epoch, and what libraries print that is dropped.
"""
