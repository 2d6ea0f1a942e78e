"""Weights from files: reading, published names, downloads, fitting them to a model."""
