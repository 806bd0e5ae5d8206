"""The `export` command: adapters as a folder of peft, merged weights, a model card, and how other programs load them.
It may import `training`, `model`, `data`, `pretrained` and the top-level modules, but not the packages beside it."""
