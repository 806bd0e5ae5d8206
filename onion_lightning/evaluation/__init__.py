"""Compares the base model, few-shot prompting and the fine-tuned model on held-out headlines (the `evaluate` command).
It may import `training` and the packages below it, but not `attention`."""
