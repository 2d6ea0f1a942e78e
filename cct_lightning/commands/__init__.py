"""The command `cct`: `main.py` finds the command, one file holds each. Nobody imports this room.

A new command is a function in a file of its own and one line in `main.COMMANDS`; `parser.py` makes its options from the
signature and its help from the docstring.
"""
