"""Cleans headlines and articles, and finds rows to drop.
It may import the top-level modules."""
