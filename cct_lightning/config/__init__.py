"""What run is this? Options, recipes and their bases, and the resolved configuration that everybody compares by.

A new option is a parameter of `Classifier`, `ImageDataModule` or `Tracking` (or one of a run's own, in `parser.py`); if
it never changes a result, it is named in `options.NEVER_CHANGE_RESULTS`. A recipe is a file in `configs/`.
"""
