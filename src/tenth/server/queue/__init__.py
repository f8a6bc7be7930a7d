"""Jobs that outlive the processes that work on them: the queue, its workers, and who starts those."""
