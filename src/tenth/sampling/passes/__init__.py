"""Passes after the first: larger images, faces generated again, an image to begin from."""
