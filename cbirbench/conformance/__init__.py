"""Checks of plugins against their interfaces: what `cbirbench plugins check` and `cbirbench.testing` run."""
