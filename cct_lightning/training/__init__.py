"""Training: the LightningModule `Classifier`, its loss, and what a run needs of the machine.

A change of a usual kind is made in one file: another loss in `loss.py`, another metric in `module.py`, another check of
the options in `checks.py`. Optimizers and schedules are in `optim/`, callbacks in `callbacks/`.
"""
