from __future__ import annotations

from pathlib import Path

import pytest
import rendering


@pytest.mark.parametrize(
    ("page", "path"),
    [
        ("README.md", "index.html"),
        ("plugins/hog/README.md", "plugins/hog/index.html"),
        ("docs/guide.md", "docs/guide.html"),
        ("docs/CONTRIBUTING.md", "docs/CONTRIBUTING.html"),
    ],
)
def test_where_a_page_is(page: str, path: str) -> None:
    assert rendering.html_path(page) == path


def test_a_list_that_the_site_does_not_see_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Points:\n- one\n- two\n\n```math\nx\n```\n\n    code\n")
    site = tmp_path / "site"
    site.mkdir()
    nav, content = "<nav><li>menu</li></nav>", "<p>Points: - one - two</p><pre>code</pre>"
    (site / "index.html").write_text(f"{nav}<article>{content}</article>")

    (problem,) = rendering.problems(tmp_path, site)

    assert problem.startswith("README.md: 0 <li> in the site, 2 on a code host")
