"""RELAX: importance maps for embeddings."""
