"""Runs read back and set side by side: variants, statistics, tables, figures, one HTML page."""
