"""Weights from files: reading, published names, downloads, adapting them to a model.

A file format or a check of files goes into `reader.py`, a published name into `download.py`, how folders of
`cct publish` and the Hugging Face Hub are read and written into `hub.py`, a naming of weights into `reference.py`, what
may differ between a model and its weights into `pretrained.py`, and what a checkpoint says of its model and may not
differ into `architecture.py`.
"""
