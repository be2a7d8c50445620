"""Figures are looked at before they are written: what is drawn, not only that a file is there."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that was written, as it was when it was written."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def remember(figure: Figure, *arguments: Any, **named: Any) -> None:
        figures.append(figure)
        savefig(figure, *arguments, **named)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures
