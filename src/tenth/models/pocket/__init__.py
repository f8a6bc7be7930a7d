"""The small model that ships in the package."""
