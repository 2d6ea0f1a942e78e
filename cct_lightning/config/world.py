"""Which processes are there? torchrun, SLURM's srun, torch's variables, or the Trainer's `devices` and `num_nodes`.

Asked once, before the Trainer is built: by the Trainer, the run folder and the batch size. Sources: torchrun's and
srun's documentation of the variables that they set, and Lightning's `plugins/environments`.
"""

import os
import re
from dataclasses import dataclass
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from cct_lightning.compat import separate_restart
from cct_lightning.errors import InputError
from cct_lightning.system.machine import started_by_hand
from cct_lightning.training.checks import device_type, devices_asked_for

_HAND = "A launcher that sets RANK and WORLD_SIZE"


@dataclass(frozen=True, kw_only=True)
class World:
    """The training processes.

    Attributes:
        devices: Those of each machine, as the Trainer takes them.
        per_node: Their number.
        num_nodes: Machines.
        environment: How processes find each other, where Lightning would not find out by itself.
    """

    devices: int | str | list[int]
    per_node: int
    num_nodes: int
    environment: ClusterEnvironment | None = None

    @property
    def size(self) -> int:
        """The number of processes over all machines."""
        return self.per_node * self.num_nodes

    def trainer_options(self, plugins: Any, *more: Any) -> dict[str, Any]:
        """Return the Trainer's options that decide its processes: devices, machines, and `plugins` with one of ours.

        Args:
            plugins: The user's, as the Trainer takes them: one, a list or None. A `ClusterEnvironment` among them wins.
            *more: Other plugins.
        """
        found = [*(plugins if isinstance(plugins, list) else [plugins] if plugins is not None else []), *more]
        if self.environment is not None and not any(isinstance(plugin, ClusterEnvironment) for plugin in found):
            found.append(self.environment)
        return {"devices": self.devices, "num_nodes": self.num_nodes, "plugins": found or None}


def find_world(trainer: Namespace) -> World:
    """Find the training processes.

    torchrun, srun or a script has started them already, and `devices` and `num_nodes` need not be given; where a user
    gives them, they must agree.

    Args:
        trainer: The Trainer's options: `accelerator`, `devices` and `num_nodes`.

    Raises:
        InputError: A GPU is asked for and there is none, or other processes are asked for than were started.
    """
    nodes, started = int(trainer.num_nodes), _torchrun() or _srun() or _by_hand(int(trainer.num_nodes))
    if started is None:
        # Lightning takes any process with SLURM's variables for one that srun has started: a shell, a batch script.
        alone = LightningEnvironment() if "SLURM_NTASKS" in os.environ else None
        local = _devices(trainer)
        return World(devices=trainer.devices, per_node=local, num_nodes=nodes, environment=alone)
    launcher, per_node, num_nodes = started
    given = str(trainer.devices) not in ("auto", "-1")
    local = _devices(trainer) if given else per_node
    if local != per_node or nodes not in (1, num_nodes):
        asked = [f"--trainer.devices {trainer.devices}"] * given + [f"--trainer.num_nodes {nodes}"] * (nodes != 1)
        raise InputError(
            f"{launcher} has started {per_node} processes on each of {num_nodes} machines, and {' '.join(asked)} asks "
            "for others: leave the option out, or start as many."
        )
    environment: ClusterEnvironment | None = None
    if launcher == "srun":
        # Lightning compares with the job's number, which is not that of a step with other tasks, or is missing.
        os.environ["SLURM_NTASKS_PER_NODE"] = str(per_node)
        # A run saves and is requeued by itself, see `slurm/requeue.py`.
        environment = SLURMEnvironment(auto_requeue=False)
    elif launcher == _HAND:
        environment = TorchElasticEnvironment()  # it reads the same variables; Lightning's own does not know RANK
    elif (attempt := os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) != "0":
        separate_restart(attempt)
    return World(
        devices=trainer.devices if given else per_node, per_node=per_node, num_nodes=num_nodes, environment=environment
    )


def _devices(trainer: Namespace) -> int:
    import torch

    devices, kind = str(trainer.devices), device_type(trainer.accelerator)
    if devices in ("auto", "-1"):
        return torch.cuda.device_count() if kind == "cuda" else 1
    if devices.isdecimal():
        return devices_asked_for(trainer.devices)
    # a list of devices, "0,2" or [0, 2]
    return len([part for part in devices.strip("[]").split(",") if part.strip()])


def _number(name: str) -> int:
    """Return a variable that a launcher sets for each process."""
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise InputError(
            f"{name} is {value!r}, no whole number, beside other variables of torchrun, srun or torch: unset them all, "
            "or start the processes with their launcher."
        )
    return int(value)


def _torchrun() -> tuple[str, int, int] | None:
    """Return the launcher, its processes on each machine, and machines; None where torchrun has not started this."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return "torchrun", _number("LOCAL_WORLD_SIZE"), _number("GROUP_WORLD_SIZE")


def _srun() -> tuple[str, int, int] | None:
    """Return the same of srun; None for a single task, from which Lightning starts what `devices` asks for."""
    if "SLURM_STEP_NUM_TASKS" not in os.environ or _number("SLURM_STEP_NUM_TASKS") == 1:
        return None
    nodes, tasks = _number("SLURM_STEP_NUM_NODES"), os.environ.get("SLURM_STEP_TASKS_PER_NODE", "an unknown number of")
    even = re.fullmatch(r"(\d+)(\(x\d+\))?", tasks)  # 4(x2): four on each of two machines
    if even is None:
        raise InputError(
            f"srun has started {tasks} tasks on its {nodes} machines, and training needs as many on each: give "
            "--ntasks-per-node."
        )
    return "srun", int(even[1]), nodes


def _by_hand(num_nodes: int) -> tuple[str, int, int] | None:
    """Return the same of processes that were started with torch's variables, which may not tell the machines."""
    if not started_by_hand():
        return None
    size, _, _ = (_number(name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    local = _number("LOCAL_WORLD_SIZE") if os.environ.get("LOCAL_WORLD_SIZE") else 0
    per_node = local or size // num_nodes
    nodes = size // local if local else num_nodes
    if per_node * nodes != size:
        raise InputError(
            f"WORLD_SIZE is {size}, and that many processes cannot be the same number on each machine: give "
            "LOCAL_WORLD_SIZE, or --trainer.num_nodes."
        )
    return _HAND, per_node, nodes
