"""Reads rows from files, folders, the Hugging Face Hub and Kaggle.
It may import the top-level modules."""
