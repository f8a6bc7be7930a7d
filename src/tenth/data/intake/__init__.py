"""Folders of people, as many as the disk holds: what is in them, what was opened of it, what is said of it."""
