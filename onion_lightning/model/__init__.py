"""Loads the frozen base model, trains LoRA adapters on it and generates articles.
May import data, pretrained, and the top-level modules below them (rank_zero, lightning_internals, errors)."""
