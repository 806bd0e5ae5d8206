"""Loads the frozen base model, trains LoRA adapters on it and generates articles.
It may import `data`, `pretrained` and the top-level modules."""
