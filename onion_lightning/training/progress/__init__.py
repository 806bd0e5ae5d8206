"""How far a command is: a bar in a terminal, lines in a log file.
It may import `model`, `data`, `pretrained` and the top-level modules."""
