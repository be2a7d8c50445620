from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from cbirbench.errors import MissingError, UsageError
from cbirbench.figures.look import FORMATS, check_format, drawing, hu_range, one_line


def draw(path: Path, title: str = "", size: float = 3.0) -> None:
    with drawing(path, size, 2.0, title) as figure:
        figure.subplots().plot([1, 2, 4])


@pytest.mark.parametrize("ending", [*FORMATS, ".PNG"])
def test_equal_figures_give_equal_bytes_without_a_date(ending: str, tmp_path: Path) -> None:
    one, other = tmp_path / f"one{ending}", tmp_path / f"other{ending}"
    draw(one, "a title")
    draw(other, "a title")
    assert one.read_bytes() == other.read_bytes()
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending.lower()]
    assert one.read_bytes().startswith(start)
    assert b"Date" not in one.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([one, other])


def test_neither_takes_up_nor_changes_what_a_user_set(tmp_path: Path) -> None:
    draw(tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red", "savefig.dpi": 20.0}):
        before = dict(matplotlib.rcParams)
        draw(tmp_path / "own.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "own.png").read_bytes()


def test_needs_neither_a_display_nor_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from cbirbench.figures.look import drawing\n"
        f"with drawing(pathlib.Path({str(tmp_path / 'x.png')!r}), 2, 2) as figure: figure.subplots()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.png.txt", ".png"])
def test_another_ending_is_refused_before_anything_is_drawn(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf") as caught:
        check_format(tmp_path / name)
    assert caught.value.remedy
    with pytest.raises(UsageError):
        draw(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MissingError, match="could not be written"):
        draw(tmp_path / "file" / "x.png")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_drawing_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    draw(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), drawing(path, 2, 2):
        1 / 0  # noqa: B018
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_title_is_text_on_as_many_lines_as_it_takes(tmp_path: Path, drawn: list[Figure]) -> None:
    draw(tmp_path / "x.png", "costs $5 or $\\frac{1}$ " + "and more " * 12)
    draw(tmp_path / "y.png")
    text = drawn[0].get_suptitle()
    assert text.startswith("costs $5 or $\\frac{1}$ and")
    lines = text.count("\n") + 1
    assert lines > 3
    assert drawn[0].get_figheight() > drawn[1].get_figheight() + 0.15 * lines
    title = drawn[0].texts[0].get_window_extent()
    assert title.x0 >= 0 and title.x1 <= drawn[0].bbox.width and title.y1 <= drawn[0].bbox.height


def test_letters_that_the_font_lacks_are_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    draw(tmp_path / "x.png", "肝臓")
    assert not list(recwarn)


def test_texts() -> None:
    assert hu_range(-200, 300.0) == "−200 to 300 HU"
    assert hu_range(-1000.5, -400) == "−1000.5 to −400 HU"
    assert one_line("a\nb \t c") == "a b c"
