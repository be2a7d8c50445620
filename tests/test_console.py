from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from cbirbench import console as module
from cbirbench.console import ConsoleProgress


def progress_on(*, terminal: bool, quiet: bool = False) -> tuple[ConsoleProgress, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    return ConsoleProgress(console, quiet=quiet), stream


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH_SHOWING_S", 0.05)


def test_a_note_is_a_line_as_it_stands() -> None:
    progress, stream = progress_on(terminal=False)
    progress.note("paper [bold]2023[/bold], 3 of 4")
    assert stream.getvalue() == "paper [bold]2023[/bold], 3 of 4\n"


def test_quiet_says_nothing(impatient: None) -> None:
    progress, stream = progress_on(terminal=True, quiet=True)
    progress.note("text")
    with progress.stage("Reading scans", 2) as advance:
        time.sleep(0.1)
        advance(2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_short_step_shows_nothing(terminal: bool) -> None:
    progress, stream = progress_on(terminal=terminal)
    with progress.stage("Reading scans", 2) as advance:
        advance(1)
        advance(1)
    assert stream.getvalue() == ""


def test_a_long_step_shows_a_bar_and_then_a_line(impatient: None) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("Reading [1] scans", 20) as advance:
        for _ in range(4):
            advance(2)
            time.sleep(0.1)
        shown = stream.getvalue()
    assert "Reading [1] scans" in shown
    assert re.search(r"[2468]/20", shown)  # how far it is when it is drawn, the machine decides
    assert "0:00:0" in shown
    assert stream.getvalue().rstrip().endswith("Reading [1] scans: 0 s")


def test_a_step_that_does_not_advance_shows_its_bar_all_the_same(impatient: None) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("relevance-rank", 1):
        time.sleep(0.4)
        assert "relevance-rank" in stream.getvalue()


def test_on_a_file_a_long_step_is_one_line(impatient: None) -> None:
    progress, stream = progress_on(terminal=False)
    with progress.stage("Reading scans", 2) as advance:
        advance(1)
        time.sleep(0.1)
        advance(1)
    assert stream.getvalue() == "Reading scans: 0 s\n"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_passes_and_takes_the_bar_away(impatient: None, failure: type[BaseException]) -> None:
    progress, stream = progress_on(terminal=True)
    with pytest.raises(failure), progress.stage("Reading scans", 2):
        time.sleep(0.2)
        raise failure
    assert not stream.getvalue().rstrip().endswith("s")
    before = stream.getvalue()
    time.sleep(0.2)
    assert stream.getvalue() == before


def test_a_step_within_a_step(impatient: None, recwarn: pytest.WarningsRecorder) -> None:
    progress, stream = progress_on(terminal=True)
    with progress.stage("Training", 1) as outer:
        time.sleep(0.1)
        with progress.stage("Epoch", 1) as inner:
            time.sleep(0.1)
            inner(1)
        outer(1)
    assert "Training: 0 s" in stream.getvalue()
    assert "Epoch: 0 s" in stream.getvalue()
    assert list(recwarn) == []


def test_on_a_pipe_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbirbench.console.BETWEEN_LINES_S", 0.0)
    written = io.StringIO()
    with ConsoleProgress(Console(file=written), quiet=False).stage("Training", 4) as advance:
        advance(3)
    assert "Training: 3 of 4" in written.getvalue()
