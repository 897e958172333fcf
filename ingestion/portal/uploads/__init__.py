"""A file from staff, from New upload to its receipt."""
