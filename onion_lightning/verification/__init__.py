"""The `verify` command: whether an exported model is the one that was trained, on the user's own machine.
It may import `evaluation` and what is below; `export` may import it."""
