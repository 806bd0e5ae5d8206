"""Predicts the memory of training from a base model's config and the flags, before any weights are read.
It may import model, data, pretrained and the top-level modules."""
