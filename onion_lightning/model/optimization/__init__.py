"""The optimizer and its steps: AdamW with a schedule, the checks of each step, and the hooks of Lightning.
It may import `data`, `model.loss` and the top-level modules."""
