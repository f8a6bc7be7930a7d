"""The images that `tenth generate` makes: what the options come to, and what is said of it."""
