"""Files read with suspicion and written whole: the one place for each."""
