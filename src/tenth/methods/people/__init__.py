"""Saved people: each a folder with a record of consent, the photos, and identities; and how all of a person is removed."""
