"""One record: entered by hand, and explained field by field."""
