"""The pages for a file from staff, from New upload to its receipt."""
