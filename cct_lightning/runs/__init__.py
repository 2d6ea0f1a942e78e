"""The run folder: what it holds, who writes it, how a run continues from it.

A new file of the folder gets its name in `folder.py`; a number of the summary, a line in `record.py`; how a quantity is
read and written, a line in `metrics.py`; when a run saves and stops, `last_checkpoint.py`; the rule by which a
run of a search stops early, `hyperband.py`.
"""
