"""Published models: which files they have, downloads, and the lock file."""
