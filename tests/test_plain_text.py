from __future__ import annotations

import pytest

from cbirbench.plain_text import printable


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
