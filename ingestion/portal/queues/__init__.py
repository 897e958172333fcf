"""Overview, queues and dead letters: the messages, their consumers, and changes by staff."""
