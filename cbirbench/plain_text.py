"""What messages are put together from: somebody else's text made fit to be shown, and things counted."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """A text whose control characters, but for ends of lines and tabs, are question marks."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def many(count: int, what: str) -> str:
    """``1 scan``, or ``2 scans``."""
    return f"{count} {what}" + "s" * (count != 1)


def are(things: Sequence[object]) -> str:
    """``is`` of one, ``are`` of several."""
    return "is" if len(things) == 1 else "are"
