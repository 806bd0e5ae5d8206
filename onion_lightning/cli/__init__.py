"""The command line: from the words that were typed to a configured run and its exit status.
It may import every other package."""
