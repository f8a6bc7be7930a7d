"""Faces in photos: detection, alignment, descriptors, crops."""
