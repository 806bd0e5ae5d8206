"""Attention from one phrase of a text to an earlier one: measuring it, and reporting it as JSON, a web page and a plot.
It may import `training` and the packages below it, but not `evaluation`."""
