"""Benchmarks: cohorts of CT scans with a split and labels."""
