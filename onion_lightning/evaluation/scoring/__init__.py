"""Losses of given texts after many prompts, computed without repeating what the prompts have in common.
It may import `model`, `data` and the top-level modules."""
