"""Callbacks, checkpoints, exact resume, loggers, and the session of commands without a Trainer.
It may import `model`, `data`, `pretrained` and the top-level modules."""
