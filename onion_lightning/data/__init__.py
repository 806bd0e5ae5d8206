"""Reads, cleans, splits, tokenizes and batches headline/article corpora.
May import pretrained, and the top-level modules below it (output_folder, rank_zero, lightning_internals, errors)."""
