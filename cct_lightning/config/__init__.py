"""What run is this? Options, recipes and their bases, and the resolved configuration that everybody compares by."""
