"""cbirbench: benchmarks for content-based image retrieval of medical CT slices."""

__version__ = "0.1.0"
