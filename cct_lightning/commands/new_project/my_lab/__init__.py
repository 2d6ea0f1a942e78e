"""Parts of my own for Compact Transformers."""
