"""What the server keeps: a database, files by their content, the gallery, and how all of it is removed again."""
