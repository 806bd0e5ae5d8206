"""LoRA adapters: their settings and insertion, what a checkpoint contains of them, and their use in generation.
It may import `pretrained` and the top-level modules."""
