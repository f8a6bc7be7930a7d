"""Reading untrusted files, writing files atomically, and locking folders."""
