"""Help, typos and completion of the command line, from a table of all options: nothing here imports torch.

`options.json` is made from the real parsers by `make options` (`build.py`), which a change of any option or docstring
needs; tests/commands/test_option_table.py says when it was forgotten. `pages.py` prints help, and says which options
the short page shows under which topic; `check.py` finds typos; `completion.py` writes the scripts for shells.
"""
