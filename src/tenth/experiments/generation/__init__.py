"""What `tenth generate`, the library and the server ask for, and how it becomes a folder of images."""
