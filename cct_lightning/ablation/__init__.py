"""Grids and searches: `grid.py` reads the file, `check.py` tries each run, `plan.py` finds folders, Ray trains.

A field of the file is a change of `grid.py`, a form of its values of `values.py`; which combinations there are, of
`combine.py` and `search.py`; what `bayes` tries next, of `bayes.py`; what each run gets of the machine, of `engine.py`;
how one is started and stopped, of `trial.py`; what is shown, of `live.py`.
"""
