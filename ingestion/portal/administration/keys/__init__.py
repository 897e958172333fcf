"""The keys of API clients."""
