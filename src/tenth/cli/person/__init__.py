"""The person of a command: where the photos come from, how much each counts, and what it changes."""
