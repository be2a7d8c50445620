"""The errors a user can meet. Each says what was wrong, what was received and what to do.

The command line prints them without a traceback and exits with ``exit_code``.
"""

from __future__ import annotations


class CbirbenchError(Exception):
    """A run failed for a reason the user can act on.

    Args:
        problem: What was wrong, with what was received, in one or two sentences.
        remedy: What to do about it; empty only where nothing can be done.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


class UsageError(CbirbenchError):
    """The command itself cannot be carried out as given (exit code 2)."""

    exit_code = 2


class DataError(CbirbenchError):
    """A scan, mask or data folder cannot be used; the message names the file."""


class MissingError(CbirbenchError):
    """Something the run needs is not here: weights, a GPU, a system library."""


class PluginError(CbirbenchError):
    """A plugin cannot be imported, or handed over something its interface forbids."""


class DataWarning(UserWarning):
    """Something doubtful about a scan that can be used: it is shown, and kept in the run's records."""
