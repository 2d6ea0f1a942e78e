"""Which processes there are: found from torchrun's and srun's variables, and not contradicted by options."""

import os
from typing import Any

import pytest
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.world import World, find_world
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "WORLD_SIZE": "4"}
TORCHRUN |= {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
# As in a step of 2 x 2 tasks of a job with three tasks on each node.
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
SRUN |= {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2", "SLURM_JOB_ID": "1"}
SRUN |= {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"}
# As a script sets them that starts the processes itself.
HAND = {name: TORCHRUN[name] for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK")}
HAND |= {name: TORCHRUN[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
# As in a batch script, or a shell of `salloc`.
NO_STEP = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_JOB_ID": "1"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")] + list(TORCHRUN):
        monkeypatch.delenv(name, raising=False)


def found(devices: Any = "auto", num_nodes: int = 1) -> World:
    return find_world(Namespace(accelerator="cpu", devices=devices, num_nodes=num_nodes))


def trainer(world: World, plugins: Any = None) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, **world.trainer_options(plugins))


@pytest.mark.parametrize(
    ("variables", "kind"),
    [(TORCHRUN, TorchElasticEnvironment), (SRUN, SLURMEnvironment), (HAND, TorchElasticEnvironment)],
    ids=["torchrun", "srun", "hand"],
)
def test_processes_that_are_started_need_no_option(
    variables: dict[str, str], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for given in ({}, {"devices": 2}, {"devices": "0,1"}, {"num_nodes": 2}):
        world = found(**given)
        assert (world.per_node, world.num_nodes, world.size) == (2, 2, 4)
    built = trainer(found())
    environment: ClusterEnvironment = built.strategy.cluster_environment
    assert isinstance(environment, kind)
    assert (built.world_size, built.global_rank, built.local_rank) == (4, 1, 1)
    assert not getattr(environment, "auto_requeue", False), "Lightning would save and requeue beside us"


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN, HAND], ids=["torchrun", "srun", "hand"])
@pytest.mark.parametrize("given", [{"devices": 4}, {"devices": 1}, {"num_nodes": 3}], ids=str)
def test_other_processes_than_were_started_are_one_sentence(
    variables: dict[str, str], given: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ((option, value),) = given.items()
    with pytest.raises(InputError, match=f"2 processes on each of 2 machines, and --trainer.{option} {value} asks"):
        found(**given)


@pytest.mark.parametrize(("count", "separated"), [("0", []), ("2", ["2"])])
def test_a_restart_of_torchrun_has_its_own_meeting_place(
    count: str, separated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is good for is in survival/test_processes.py."""
    seen: list[str] = []
    monkeypatch.setattr("cct_lightning.config.world.separate_restart", seen.append)
    for name, value in {**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": count}.items():
        monkeypatch.setenv(name, value)
    found()
    assert seen == separated


def test_processes_started_by_hand_are_on_one_machine_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**HAND, "LOCAL_WORLD_SIZE": ""}.items():
        monkeypatch.setenv(name, value)
    assert (found().per_node, found().num_nodes) == (4, 1)
    assert (found(num_nodes=2).per_node, found(num_nodes=2).num_nodes) == (2, 2)
    with pytest.raises(InputError, match=r"4 processes on each of 1 machines, and --trainer\.devices 2 asks"):
        found(devices=2)
    with pytest.raises(InputError, match="cannot be the same number on each machine"):
        found(num_nodes=3)
    with pytest.raises(InputError, match="need to agree on a folder: give --run_dir"):
        RunFolder.choose(None, ResolvedConfig.resolve({"data": {"name": "digits"}}))
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InputError, match="RANK is 'first', no whole number"):
        found()


def test_uneven_tasks_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3,1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="give --ntasks-per-node"):
        found()


@pytest.mark.parametrize("more", [{}, {"SLURM_STEP_NUM_TASKS": "1"}], ids=["no step", "one task"])
def test_lightning_starts_processes_where_slurm_has_started_one(
    more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**NO_STEP, **more}.items():
        monkeypatch.setenv(name, value)
    world = found(devices=2)
    assert world.size == 2
    environment = trainer(world).strategy.cluster_environment
    assert isinstance(environment, LightningEnvironment)
    assert not environment.creates_processes_externally


def test_an_environment_that_the_user_brings_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    mine = SLURMEnvironment()
    assert trainer(found(), [mine]).strategy.cluster_environment is mine


@pytest.mark.parametrize(
    "variables",
    [
        {"TORCHELASTIC_RUN_ID": "none"},
        {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "x", "GROUP_WORLD_SIZE": "1"},
        {"SLURM_STEP_NUM_TASKS": "2"},
        {"SLURM_STEP_NUM_TASKS": "abc"},
    ],
    ids=str,
)
def test_variables_that_are_half_set_are_one_sentence(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="no whole number, beside other variables"):
        found()
