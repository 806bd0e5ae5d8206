"""Fine-tune Llama-2 7B on headlines and articles, and write satirical news for new headlines.

The command is ``python -m onion_lightning``; the parts are imported by name (``onion_lightning.model.module.OnionModule``).
Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
