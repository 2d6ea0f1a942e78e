"""Data sets, loaders, and augmentation on the batch."""

from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.data.dataset import Batch
from cct_lightning.data.readers import Arrays, Files
from cct_lightning.data.sources import SOURCES, Source

__all__ = ["SOURCES", "Arrays", "Batch", "Files", "ImageDataModule", "Source"]
