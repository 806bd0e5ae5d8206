"""Reads preference pairs, splits them by headline and batches both articles of a pair together.
It may import the rest of `data`, `pretrained` and the top-level modules."""
