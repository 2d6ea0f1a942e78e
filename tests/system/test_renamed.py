"""Modules of version 0.1 can be imported under their old names for one release."""

import importlib
import importlib.util

import pytest

from cct_lightning.system.renamed import RENAMED


@pytest.mark.parametrize("old", RENAMED)
def test_the_new_module_exists(old: str) -> None:
    for new in RENAMED[old].split():
        assert importlib.util.find_spec(f"cct_lightning.{new}") is not None


def test_old_names_give_the_same_things_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match=r"cct_lightning\.comparison\.variants now"):
        from cct_lightning.experiments.variants import compare_runs
    from cct_lightning.comparison.variants import compare_runs as new

    assert compare_runs is new
    with pytest.warns(DeprecationWarning, match="next release"):
        from cct_lightning.data.mixing import MixingPolicy
    from cct_lightning.data.augment.mixup import MixingPolicy as renamed

    assert MixingPolicy is renamed
    with pytest.raises(ImportError):
        importlib.import_module("cct_lightning.nowhere")
