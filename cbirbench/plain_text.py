"""Somebody else's text, made fit to be shown: names come from plugins, files and scans."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text whose control characters, but for ends of lines and tabs, are question marks."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
