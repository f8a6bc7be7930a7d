"""Marks on the pictures that tenth makes, so that others can tell that a model made them; and what a file's marks say."""
