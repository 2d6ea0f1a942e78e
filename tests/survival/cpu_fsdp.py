"""FSDP on a CPU, which Lightning keeps for GPUs and PyTorch does not: for tests."""

from pytorch_lightning.strategies import FSDPStrategy


class CpuFSDP(FSDPStrategy):
    """FSDP without Lightning's look at the accelerator, which spares subclasses."""
