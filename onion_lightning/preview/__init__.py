"""The `preview` command: what training would see, as a page and on the terminal, without weights and without a Trainer.
It may import `training` and the packages below it, but not `evaluation`, `attention` and `planning`."""
