"""Grids of runs: `grid.py` reads the file, `check.py` tries each run, `plan.py` finds folders and times, Ray trains.

A field of the file is a change of `grid.py`; what each run gets of the machine, of `engine.py`; how one is started and
stopped, of `trial.py`; what is shown, of `live.py`.
"""
