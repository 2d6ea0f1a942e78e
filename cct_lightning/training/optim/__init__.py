"""How weights are moved: optimizers, parameter groups, the learning rate over layers and over the run.

A change of a usual kind is made in one file: another optimizer is an entry of `OPTIMIZERS` in `optimizers.py`, another
curve a line of `build_schedule` in `schedule.py`, another rule for weight decay in `groups.py`, the order of the layers
of another model in `finetune.py`, and the options of them all in `options.py`.
"""

from cct_lightning.training.optim.options import Optim

__all__ = ["Optim"]
