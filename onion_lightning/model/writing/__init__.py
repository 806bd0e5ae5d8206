"""Writes articles for headlines and keeps the best of several: losses of given texts, loops, and runs copied from a corpus.
It may import `data`, the top-level modules, and the modules of `model` but `module`."""
