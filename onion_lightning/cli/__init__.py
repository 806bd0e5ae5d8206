"""Parses the command line, configures and runs a command, and returns its exit status.
It may import every other package."""
