"""Weights & Biases, other loggers, and what the terminal shows of a run.

`loggers.py` has the loggers by name (options: `config/tracking.py`); `wandb_logger.py` sets W&B's up, `connection.py`
decides whether it is online, `shield.py` keeps a run alive and its data on this machine when W&B is lost.
`media.py` logs tables and pictures, which `wandb_media.py` shows in W&B and `figure_loggers.py` in TensorBoard and
MLflow: a new picture is a registered function of `analysis`, see `analysis/pictures.py`. `watch.py`: histograms.
`progress.py` has the bar, the line for each epoch, and what libraries print that is dropped.
"""
