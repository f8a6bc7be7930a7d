"""What keeps a server safe from the pages, people and files that reach it. SECURITY.md has the threat model."""
