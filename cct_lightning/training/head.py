"""A pretrained head is used by the names of its classes.

Letters: K classes, D embedding dimension.
"""

import logging
from collections.abc import Sequence

import torch
from torch import nn

from cct_lightning.data.classes import are_unnamed, normal_name
from cct_lightning.models.weights.pretrained import head_of
from cct_lightning.models.weights.reader import StoredWeights

log = logging.getLogger(__name__)


@torch.no_grad()
def match_head(net: nn.Module, stored: StoredWeights, classes: Sequence[str]) -> None:
    """Give each class the row of a loaded head (K, D) that was trained for the class of that name; the others zeros.

    A head of weights that do not name their classes stays as it is, and so does one that was re-initialized because
    the number of classes differs.
    """
    theirs = [normal_name(name) for name in stored.hparams.get("classes") or ()]
    ours = [normal_name(name) for name in classes]
    if ours == theirs or len(ours) != len(theirs) or are_unnamed(ours, theirs) or are_unnamed(theirs, ours):
        return
    head = net.get_submodule(head_of(net))
    rows = [theirs.index(name) if name in theirs else -1 for name in ours]
    known = torch.tensor(rows) >= 0
    for parameter in head.parameters():
        parameter.copy_(parameter[rows] * known.view(-1, *[1] * (parameter.ndim - 1)).to(parameter))
    if not all(known):
        log.warning("head: %d of %d classes are those of the checkpoint, by name", sum(known), len(ours))
