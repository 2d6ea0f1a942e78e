"""What every room needs of Python and the machine: atomic writes, imports by path, cores, durations.

A change goes to `atomic.py` for how files are written, `importing.py` for how `my_lab.GemPool` becomes a class,
`machine.py` for how cores and memory are counted, `durations.py` for how a time is printed, `places.py` for what a path
is and where the cache is.
"""
