"""Runs read back and compared: variants, statistics, tables, figures, one HTML page, W&B's dashboard.

`runs.py` reads run folders (`wandb_runs.py` W&B), `variants.py` groups them by what differs, `statistics.py` compares.
A new column is an entry of `columns.py`, a new format a function of `tables.py`; how a metric is read (which way is
better, its unit) is in `runs/metrics.py`. `page.py` fills `page.html` with `figures.py` (Plotly) and with what
`evidence.py` finds in the run folders; `dashboard.py` is W&B's.
"""
