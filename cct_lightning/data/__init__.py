"""Data sets by name, their loaders, and what happens to a batch on its device.

Where a change of each usual kind is made:

- another data set: one file in `datasets/`; one of your own by import path, see `datasets/sources.py`
- another operation or policy of augmentation: `augment/`
- what happens to pixels before every model (sizes, crop, mean, std, class names): `input_spec.py`
- which files of a folder are images, how they are decoded and cached: `storage/`
- how the classes of data and of a trained model are matched: `classes.py`
- validation splits and subsets: `split.py`; the order of training and mid-epoch resume: `sampler.py`
- an option of all that: `datamodule.py`
"""

from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.data.datasets.sources import SOURCES, Arrays, Files, Source, register
from cct_lightning.data.input_spec import InputSpec

__all__ = ["SOURCES", "Arrays", "Batch", "Files", "ImageDataModule", "InputSpec", "Source", "register"]
