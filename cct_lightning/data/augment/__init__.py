"""Augmentation of whole batches on their device: policies, operations, mixing, counter-based random numbers."""
