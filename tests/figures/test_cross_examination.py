from __future__ import annotations

import xml.dom.minidom
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbirbench.errors import DataError, UsageError
from cbirbench.figures.cross_examination import (
    MOST_BESIDE,
    PANEL_INCHES,
    ExamRow,
    ExamSlice,
    draw_cross_examination,
)


def item(value: int, heading: str = "1", mark: str = "", shape: tuple[int, int] = (8, 8)) -> ExamSlice:
    return ExamSlice(np.full(shape, value, np.int16), heading, (f"slice {value}", "distance 1.5"), mark)


QUERY = item(-7, "Query")


def rows() -> list[ExamRow]:
    return [
        ExamRow("Chosen by the expert", [item(0, "1", "rank 2"), item(1, "2")]),
        ExamRow("Retrieved by hog", [item(2, "1"), item(0, "2", "expert's 1"), item(3, "3")]),
    ]


def draw(path: Path, given: Any = None, **more: Any) -> None:
    named = {"title": "new, slice 7", "caption": "Overlap."} | more
    draw_cross_examination(QUERY, rows() if given is None else given, path, **named)


def values(axes: Axes) -> int:
    (image,) = axes.get_images()
    return int(np.asarray(image.get_array())[0, 0])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


def test_query_first_then_each_order_in_its_row(drawn: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (figure,) = drawn
    assert [values(axes) for axes in figure.axes] == [-7, 0, 1, 2, 0, 3]
    left, top = zip(*((a.get_position().x0, a.get_position().y1) for a in figure.axes), strict=True)
    query, chosen, retrieved = 0, (1, 2), (3, 4, 5)
    assert left[query] < min(left[1:])
    assert len({round(top[i], 6) for i in chosen}) == 1 and len({round(top[i], 6) for i in retrieved}) == 1
    assert top[chosen[0]] > top[retrieved[0]]
    assert [round(left[i], 6) for i in chosen] == [round(left[i], 6) for i in retrieved[:2]]
    assert left[3] < left[4] < left[5]


def test_slices_are_shown_in_the_wide_window(drawn: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", window=(50, 150))
    for figure, (low, high) in zip(drawn, [(-200, 300), (50, 150)], strict=True):
        assert {image.get_clim() for axes in figure.axes for image in axes.get_images()} == {(low, high)}
        assert any(f"{low:g} to {high:g} HU".replace("-", "−") in text for text in texts(figure))


def test_what_both_chose_is_framed_and_said(drawn: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", [ExamRow("Retrieved by hog", [item(2)])])
    marked, plain = drawn
    framed = [axes.spines["top"].get_linewidth() > 2 for axes in marked.axes]
    assert framed == [False, True, False, False, True, False]
    assert {"✓ rank 2", "✓ expert's 1"} <= set(texts(marked))
    assert any("Thick frame" in text for text in texts(marked))
    assert not any("✓" in text for text in texts(plain))


def test_texts_stand_with_their_slices(drawn: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (figure,) = drawn
    assert figure.get_suptitle() == "new, slice 7"
    found = texts(figure)
    assert {"Query", "Chosen by the expert", "Retrieved by hog", "slice 3", "Overlap."} <= set(found)
    assert found.count("distance 1.5") == 6
    height = figure.get_figheight()
    (below,) = [text for text in figure.texts if text.get_text() == "slice 3"]
    axes = figure.axes[5].get_position()
    assert below.get_position()[0] == pytest.approx(axes.x0)
    assert axes.y0 - 0.2 / height < below.get_position()[1] < axes.y0


def test_a_long_row_goes_on_below(drawn: list[Figure], tmp_path: Path) -> None:
    many = [item(number, str(number)) for number in range(MOST_BESIDE + 2)]
    draw(tmp_path / "a.png", [ExamRow("Retrieved by hog", many)])
    (figure,) = drawn
    tops = [round(axes.get_position().y1, 4) for axes in figure.axes[1:]]
    assert len(set(tops[:MOST_BESIDE])) == 1 and len(set(tops[MOST_BESIDE:])) == 1
    assert tops[0] > tops[-1]
    assert texts(figure).count("Retrieved by hog") == 1


@pytest.mark.parametrize("name", ["Retrieved by a-long-name, run 3, with neighbours within 20 mm", "W" * 90])
def test_nothing_leaves_the_figure(drawn: list[Figure], tmp_path: Path, name: str) -> None:
    lonely = ExamSlice(np.zeros((8, 8), np.int16), "1", ("a slice with a long name " * 3,), "expert's 12")
    draw(tmp_path / "a.png", [ExamRow(name, [lonely]), ExamRow("b", [item(1)])], caption="word " * 60)
    (figure,) = drawn
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.texts:
        box = text.get_window_extent()
        # A word without a break is longer than any line.
        assert "WWW" in text.get_text() or box.x1 <= width + 1, text.get_text()
        assert box.x0 >= 0 and box.y0 >= 0 and box.y1 <= height + 1, text.get_text()
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(min(box.x0, box.y0) >= 0 and max(box.x1, box.y1) <= 1 for box in boxes)
    assert boxes[1].width * width / figure.dpi == pytest.approx(PANEL_INCHES)
    assert boxes[1].y0 > boxes[2].y1


def test_names_are_text_in_any_format(tmp_path: Path) -> None:
    for ending in ("svg", "pdf", "png"):
        draw(tmp_path / f"a.{ending}", [ExamRow("a & b <c> $x$ \x07", [item(1)])])
        assert (tmp_path / f"a.{ending}").stat().st_size > 1000
    xml.dom.minidom.parse(str(tmp_path / "a.svg"))


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    draw(tmp_path / "a.svg")
    draw(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_slices_of_any_shape(drawn: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "a.png", [ExamRow("a", [item(1, shape=(4, 9)), item(2, shape=(9, 4))])])
    assert [values(axes) for axes in drawn[0].axes] == [-7, 1, 2]


@pytest.mark.parametrize(
    ("given", "error"),
    [([], DataError), ([ExamRow("a", [])], DataError), ([ExamRow("a", [item(1, shape=(0, 4))])], DataError)],
)
def test_nothing_to_draw(tmp_path: Path, given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        draw(tmp_path / "a.png", given)
    assert list(tmp_path.iterdir()) == []


def test_other_endings_and_windows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.bmp"):
        draw(tmp_path / "a.bmp")
    with pytest.raises(UsageError):
        draw(tmp_path / "a.png", window=(100, 100))
