"""The page and the HTTP API, on the same calls as the command line: a queue, its workers, and what they make."""
