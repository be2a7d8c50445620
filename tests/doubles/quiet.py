"""A progress that shows nothing and remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Quiet:
    """See `cbirbench.interfaces.Progress`.

    Attributes:
        notes: Lines that were told.
        titles: Steps that were begun.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.titles: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        self.titles.append(title)
        yield lambda done: None
