"""Every private part of a library that the package touches, in one place; nobody else touches any.

Each entry says why the public interface is not enough. All were run with torch 2.14.1, torchvision 0.29.1,
pytorch-lightning 2.6.6, torchmetrics 1.9, wandb 0.31.0 and jsonargparse 4.53 (Python 3.11, 2026-11-30); the upper bounds
in requirements.txt are what was tested. tests/test_architecture.py finds private access anywhere else.

Libraries are imported where they are used: this file is imported by commands that need none of them.
"""
