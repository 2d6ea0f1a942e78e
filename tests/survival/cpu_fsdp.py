"""FSDP on a CPU, which Lightning keeps for GPUs: for tests."""

from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullOptimStateDictConfig, FullyShardedDataParallel, OptimStateKeyType, StateDictType
from torch.optim import Optimizer


class CpuFSDP(FSDPStrategy):
    """FSDP without Lightning's look at the accelerator, which spares subclasses."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **self.kwargs)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As Lightning's, which moves what was gathered to the CPU: here no copy, but memory that is used again."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer._optimizer
        options = FullOptimStateDictConfig(offload_to_cpu=False, rank0_only=True)
        with FullyShardedDataParallel.state_dict_type(
            self.model, StateDictType.FULL_STATE_DICT, optim_state_dict_config=options
        ):
            state = FullyShardedDataParallel.optim_state_dict(self.model, optimizer)
        if self.global_rank:
            return state
        return FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, self.model)
