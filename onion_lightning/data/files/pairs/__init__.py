"""Decides how a row gives a headline and an article, and converts rows.
It may import the modules beside it that name columns and convert cells."""
