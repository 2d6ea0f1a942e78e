"""Data sets, loaders, and augmentation on the batch."""

from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.data.datasets.readers import Arrays, Files
from cct_lightning.data.datasets.sources import SOURCES, Source

__all__ = ["SOURCES", "Arrays", "Batch", "Files", "ImageDataModule", "Source"]
