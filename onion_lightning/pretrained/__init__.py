"""Finds or downloads pretrained base models, and loads their configs and tokenizers.
May import the top-level modules below it (output_folder, rank_zero, lightning_internals, errors)."""
