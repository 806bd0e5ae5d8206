"""Generated articles: their records, the file that they are written to, and how they are shown.
It may import `data` and the top-level modules."""
