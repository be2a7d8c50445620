"""Progress in the terminal: a bar with the time left for every step that lasts over a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WORTH_SHOWING_S = 1.0
"""A step shorter than this shows no bar."""


class ConsoleProgress:
    """Shows steps on a console (standard error, so that standard output stays for results)."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.console = console
        self.quiet = quiet

    def note(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self.quiet:
            self.console.print(text, markup=False, highlight=False)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar once the step has lasted a second; on a file or a pipe, a line at its end."""
        if self.quiet:
            yield lambda done: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        task = bar.add_task(title, total=total)
        began = time.monotonic()
        shown = False

        def advance(done: int) -> None:
            nonlocal shown
            bar.advance(task, done)
            if not shown and self.console.is_terminal and time.monotonic() - began > WORTH_SHOWING_S:
                bar.start()
                shown = True

        try:
            yield advance
        finally:
            if shown:
                bar.stop()
        lasted = time.monotonic() - began
        if lasted > WORTH_SHOWING_S:
            self.note(f"{title}: {lasted:.0f} s")
