"""Parses and checks a command line: flags, YAML files and checkpoints, and the wording of errors in them.
It may import every package but `cli`."""
