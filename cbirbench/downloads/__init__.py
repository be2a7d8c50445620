"""Public data: what there is, and how it is fetched."""
