"""A new plugin, as a distribution of its own."""
