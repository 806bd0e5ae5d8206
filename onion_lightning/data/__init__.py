"""Reads, cleans, splits, tokenizes and batches headline/article corpora.
It may import `pretrained` and the top-level modules."""
