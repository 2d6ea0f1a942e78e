"""The data sets, one file each (two where they share a format): how its files are read, and its entry in `SOURCES`.

Another data set is another file here that calls `register(Source(...))`: every file of this folder is imported. One of
your own needs no change here: `data.name` takes the import path of a `Source`.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
