"""The audit of a cohort: `cbirbench data check`."""
