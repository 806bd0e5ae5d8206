"""A run as a job of several ranks: what they agree on, which checkpoint they resume from, its folder and its scheduler.
It may import `model`, `data`, `pretrained`, `training.checkpoint_io` and the top-level modules."""
