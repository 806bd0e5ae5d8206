"""Compares the base model, few-shot prompting and the fine-tuned model on held-out headlines (the `evaluate` command).
May import training, model, data, pretrained, and the top-level modules below them, but not attention."""
