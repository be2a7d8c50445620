from __future__ import annotations

from pathlib import Path

import built_html
import pytest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top">Home</h1><img src="a.png">')
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "style.css").write_text("a { background: url(a.png) }")
    return tmp_path


def found(site: Path, body: str) -> list[str]:
    (site / "docs/page.html").write_text(f'<html><body><p id="caf&eacute;">{body}</p></body></html>')
    return built_html.problems(site)


@pytest.mark.parametrize(
    "link",
    ["../index.html", "../index.html#top", "..", "../", "#caf%C3%A9", "#café", "page.html?q=1", "../a%2Epng"],
)
def test_links_that_lead_somewhere(site: Path, link: str) -> None:
    assert found(site, f'<a href="{link}">x</a>') == []


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("nowhere.html", "there is no docs/nowhere.html"),
        ("../docs", "there is no docs/index.html"),
        ("../../index.html", "there is no ../index.html"),
        ("../index.html#bottom", "index.html has no anchor bottom"),
        ("#nowhere", "docs/page.html has no anchor nowhere"),
    ],
)
def test_dead_links_and_anchors(site: Path, link: str, reason: str) -> None:
    assert found(site, f'<a href="{link}">x</a>') == [f"docs/page.html: the link {link} is dead: {reason}"]


def test_pictures_are_links_too(site: Path) -> None:
    assert found(site, '<img src="b.png">') == [
        "docs/page.html: the link b.png is dead: there is no docs/b.png"
    ]


@pytest.mark.parametrize(
    "loading",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<script src="//cdn.example.org/a.js"></script>',
        '<img src="http://example.org/a.png">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
    ],
)
def test_nothing_is_loaded_from_elsewhere(site: Path, loading: str) -> None:
    (problem,) = found(site, loading)
    assert problem.endswith("would be loaded from elsewhere")


def test_links_to_elsewhere_and_data_are_fine(site: Path) -> None:
    assert found(site, '<a href="https://example.org">x</a><img src="data:image/png;base64,">') == []


def test_styles_load_nothing_from_elsewhere(site: Path) -> None:
    (site / "style.css").write_text('@import "https://example.org/a.css"; a { background: url(//b.org/c) }')

    assert len(found(site, "")) == 2
