"""Progress in the terminal: a bar with the time left for every step that lasts over a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WORTH_SHOWING_S = 1.0
"""A step shorter than this shows no bar."""

BETWEEN_LINES_S = 60.0
"""On a file or a pipe, a long step says this often how far it is."""


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
        """Show a bar once the step has lasted a second; on a file or a pipe, a line now and then."""
        if self.quiet:
            yield lambda done: None
            return
        from rich.errors import LiveError
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            speed_estimate_period=600.0,  # an epoch may take minutes; rich forgets after 30 s
        )
        task = bar.add_task(title, total=total)
        began = time.monotonic()

        def show() -> None:
            with suppress(LiveError):  # a bar within a bar stays away
                bar.start()

        # By the clock, not by the first advance: that may come late, or be the only one.
        clock = threading.Timer(WORTH_SHOWING_S, show)
        clock.daemon = True
        if self.console.is_terminal:
            clock.start()
        told = began

        def advance(done: int) -> None:
            nonlocal told
            bar.advance(task, done)
            if not self.console.is_terminal and time.monotonic() - told > BETWEEN_LINES_S:
                told = time.monotonic()
                self.note(f"{title}: {bar.tasks[0].completed:.0f} of {total}, {told - began:.0f} s")

        try:
            yield advance
        finally:
            clock.cancel()
            if clock.is_alive():
                clock.join()
            if bar.live.is_started:
                bar.stop()
        lasted = time.monotonic() - began
        if lasted > WORTH_SHOWING_S:
            self.note(f"{title}: {lasted:.0f} s")
