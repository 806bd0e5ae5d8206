"""Measures what a fine-tuned model gives away about its training articles (the `memorize` command).
It may import `evaluation` and the packages below it, but not `verification` or `attention`."""
