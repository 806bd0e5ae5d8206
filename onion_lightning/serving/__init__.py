"""The `serve` command: a web page to write, compare, vote and look inside."""
