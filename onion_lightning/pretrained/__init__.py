"""Finds or downloads pretrained base models, and loads their configs and tokenizers.
It may import the top-level modules only."""
