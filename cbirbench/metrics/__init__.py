"""Metrics of retrieval and of explanations, one a file."""
