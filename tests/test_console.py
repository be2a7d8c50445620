from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console

from cbirbench import console as module
from cbirbench.console import ConsoleProgress


def progress_on(*, terminal: bool, quiet: bool = False) -> tuple[ConsoleProgress, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    return ConsoleProgress(console, quiet=quiet), stream


class Clock:
    """What the module takes for the time: it passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that a step takes; its bar comes after some milliseconds of the real time."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(module, "WORTH_SHOWING_S", 0.02)
    return clock


def wait_until(seen: Callable[[], object]) -> None:
    """Give the thread that draws as long as a busy machine may take."""
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_note_is_a_line_as_it_stands() -> None:
    progress, stream = progress_on(terminal=False)
    progress.note("paper [bold]2023[/bold], 3 of 4")
    assert stream.getvalue() == "paper [bold]2023[/bold], 3 of 4\n"


def test_quiet_says_nothing(clock: Clock) -> None:
    progress, stream = progress_on(terminal=True, quiet=True)
    progress.note("text")
    with progress.stage("Reading scans", 2) as advance:
        time.sleep(0.1)  # a bar would be there by then
        clock.now += 0.1
        advance(2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_short_step_shows_nothing(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(
        module, "WORTH_SHOWING_S", 60 * module.WORTH_SHOWING_S
    )  # a busy machine may well take a second
    progress, stream = progress_on(terminal=terminal)
    with progress.stage("Reading scans", 2) as advance:
        advance(1)
        advance(1)
    assert stream.getvalue() == ""


def test_a_long_step_shows_a_bar_and_then_a_line(clock: Clock) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("Reading [1] scans", 20) as advance:
        advance(2)
        wait_until(lambda: "Reading [1] scans" in stream.getvalue())
        advance(2)
        wait_until(lambda: "4/20" in stream.getvalue() and re.search(r"\d:\d\d:\d\d", stream.getvalue()))
        clock.now += 0.4
    assert stream.getvalue().rstrip().endswith("Reading [1] scans: 0 s")


def test_a_step_that_does_not_advance_shows_its_bar_all_the_same(clock: Clock) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("relevance-rank", 1):
        wait_until(lambda: "relevance-rank" in stream.getvalue())


def test_on_a_file_a_long_step_is_one_line(clock: Clock) -> None:
    progress, stream = progress_on(terminal=False)
    with progress.stage("Reading scans", 2) as advance:
        advance(1)
        clock.now += 0.1
        advance(1)
    assert stream.getvalue() == "Reading scans: 0 s\n"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_passes_and_takes_the_bar_away(clock: Clock, failure: type[BaseException]) -> None:
    progress, stream = progress_on(terminal=True)
    with pytest.raises(failure), progress.stage("Reading scans", 2):
        wait_until(lambda: "Reading scans" in stream.getvalue())
        clock.now += 0.2
        raise failure
    assert not stream.getvalue().rstrip().endswith("s")
    before = stream.getvalue()
    time.sleep(0.2)  # a bar is drawn ten times a second
    assert stream.getvalue() == before


def test_a_step_within_a_step(clock: Clock, recwarn: pytest.WarningsRecorder) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("Training", 1) as outer:
        wait_until(lambda: "Training" in stream.getvalue())
        with progress.stage("Epoch", 1) as inner:
            time.sleep(0.1)  # its bar would come by then
            clock.now += 0.1
            inner(1)
        outer(1)
    assert "Training: 0 s" in stream.getvalue()
    assert "Epoch: 0 s" in stream.getvalue()
    assert list(recwarn) == []


def test_on_a_pipe_a_long_step_says_how_far_it_is(clock: Clock) -> None:
    progress, stream = progress_on(terminal=False)
    with progress.stage("Training", 4) as advance:
        clock.now += 0.9 * module.BETWEEN_LINES_S
        advance(1)
        assert stream.getvalue() == ""
        clock.now += 0.2 * module.BETWEEN_LINES_S
        advance(2)
        assert stream.getvalue() == "Training: 3 of 4, 66 s\n"
        advance(1)
    assert stream.getvalue() == "Training: 3 of 4, 66 s\nTraining: 66 s\n"
