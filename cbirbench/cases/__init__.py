"""Single cases with the extractors of a finished run: explain, query, cross-exam."""
