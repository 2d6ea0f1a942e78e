"""The data sets: one entry each, how their files are read, and trees of image files."""
