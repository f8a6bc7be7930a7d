"""Faces in photos: found, aligned, described, cropped."""
