"""Overview, queues and dead letters: what waits, who takes it, and what staff change."""
