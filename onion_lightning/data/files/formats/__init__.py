"""Readers for each format of tables: its column names, and its rows as records.
It may import the modules beside it that open files and find columns."""
