"""The images that `tenth generate` makes: what the options come to, which are kept, and what is said of it."""
