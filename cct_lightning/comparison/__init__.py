"""Runs read back and compared: variants, statistics, tables, figures, one HTML page, W&B's dashboard.

`runs.py` reads run folders (`wandb_runs.py` W&B), `variants.py` groups them by what differs, `statistics.py` compares;
`compare.py` is all of that for Python. A new column is an entry of `columns.py`, a new sentence below the table one of
`notes.py`, a new format a function beside `tables.py` and `latex.py`; how a metric is read (which way is better, its
unit) is in `runs/metrics.py`. A figure for Python is an entry of `figures.py`. `page.py` fills `page.html` with what
`page_data.py` has, which `page.js` and `charts.js` draw; `evidence.py` reads curves and predictions, `effects.py` says
what options do; `dashboard.py` is W&B's.
"""
