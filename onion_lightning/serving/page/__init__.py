"""The page: its tabs, what they share, the same functions by name, and the style sheet.
It may import the other modules of `serving`, but not `server`."""
