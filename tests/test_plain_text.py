from __future__ import annotations

import pytest

from cbirbench.plain_text import are, many, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é and ×", "plain, é and ×"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[2J\r\x00", "?[2J??"),
        ("\u202eoof", "?oof"),
    ],
)
def test_control_characters_become_question_marks(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_one_and_several() -> None:
    assert [many(count, "scan") for count in (0, 1, 2)] == ["0 scans", "1 scan", "2 scans"]
    assert [are("a" * count) for count in (0, 1, 2)] == ["are", "is", "are"]
