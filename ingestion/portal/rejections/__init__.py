"""The latest records that the API refused."""
