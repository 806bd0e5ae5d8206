"""A web page to write, compare, vote and look inside (the `serve` command).
It may import `evaluation`, `attention`, `training` and the packages below them."""
