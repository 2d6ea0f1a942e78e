"""Augmentation of whole batches on their device, each image by numbers that depend on (seed, epoch, index) alone.

Where a change of each usual kind is made:

- another operation of automatic augmentation: one function, registered where it is written (`point_ops.py` for pixels,
  `operations.py` for geometry, or a file of yours; `registry.py` says how)
- another named policy, another option: `policies.py`, and `augment.py` for what it does
- what a model is shown without augmentation: `input_transform.py`
- mixup and cutmix: `mixup.py`; random erasing: `erasing.py`; crops: `crop.py`
- the random numbers themselves: `counter_rng.py`
"""

from cct_lightning.data.augment.augment import Augment
from cct_lightning.data.augment.policies import POLICIES, AugmentPolicy
from cct_lightning.data.augment.registry import Range, Sampling, operation

__all__ = ["POLICIES", "Augment", "AugmentPolicy", "Range", "Sampling", "operation"]
