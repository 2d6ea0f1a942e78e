"""Which processes are there? Asked before the Trainer is built, by the run folder and the batch size."""

from jsonargparse import Namespace

from cct_lightning.training.checks import device_type, devices_asked_for


def world_size(trainer: Namespace) -> int:
    """Return the number of training processes over all machines.

    Args:
        trainer: The Trainer's options: `accelerator`, `devices` and `num_nodes`.

    Raises:
        InputError: A GPU is asked for and there is none.
    """
    import torch

    devices, kind = str(trainer.devices), device_type(trainer.accelerator)
    if devices in ("auto", "-1"):
        local = torch.cuda.device_count() if kind == "cuda" else 1
    elif devices.isdecimal():
        local = devices_asked_for(trainer.devices)
    else:  # a list of devices, "0,2" or [0, 2]
        local = len([part for part in devices.strip("[]").split(",") if part.strip()])
    return local * int(trainer.num_nodes)
