"""Activity, keys and accounts."""
