from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cbirbench.errors import DataError, UsageError
from cbirbench.figures.explained_retrieval import SHADE, ShownSlice, _rounded, draw_explained_retrieval

SHAPE = (24, 24)


def shown(name: str, right: bool | None = None, shape: tuple[int, int] = SHAPE, **changed: Any) -> ShownSlice:
    """A synthetic slice with everything but uncertainty; its map runs from .5 (top) to .75 (bottom)."""
    rows, columns = shape
    outline = np.zeros(shape, bool)
    outline[rows // 4 : rows // 2, columns // 4 : columns // 2] = True
    importance = np.repeat(np.linspace(0.5, 0.75, rows, dtype=np.float32)[:, None], columns, axis=1)
    given = ShownSlice(
        hu=np.full(shape, 50, np.int16),
        outline=outline,
        importance=importance,
        title=name,
        label="no liver" if right is False else "liver",
        distance=None if right is None else 1.5,
        right=right,
    )
    return dataclasses.replace(given, **changed)


def retrieved(count: int) -> list[ShownSlice]:
    return [shown(f"slice-{rank}", rank % 2 == 1, distance=rank / 7) for rank in range(1, count + 1)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


def panels(figure: Figure) -> list[Axes]:
    """The axes that are slices and maps: about square, where a scale is a narrow strip."""
    return [axes for axes in figure.axes if not strip(axes)]


def strip(axes: Axes) -> bool:
    room = axes.get_position(original=True)  # of the figure; a slice within it keeps its own proportions
    width, height = axes.get_figure().get_size_inches()  # type: ignore[union-attr]
    return bool(room.width * width > 10 * room.height * height)


def contours(axes: Axes) -> list[ContourSet]:
    return [each for each in axes.collections if isinstance(each, ContourSet)]


def pixels(axes: Axes) -> Any:
    (image,) = axes.images
    return np.asarray(image.get_array())


def test_without_any_map_there_is_no_row_of_maps(drawn: list[Figure], tmp_path: Path) -> None:
    bare = [dataclasses.replace(item, importance=None, note="") for item in (shown("query"), *retrieved(3))]
    draw_explained_retrieval(bare[0], bare[1:], tmp_path / "a.png", title="a")
    draw_explained_retrieval(bare[0], retrieved(3), tmp_path / "b.png", title="a")
    without, with_maps = drawn
    assert len(without.axes) == 4 and "Importance" not in texts(without) and "No map" not in texts(without)
    assert "No map" in texts(with_maps) and without.get_figheight() < with_maps.get_figheight() - 1
    assert not any("Each map" in text for text in texts(without))


def test_everything_is_said(tmp_path: Path, drawn: list[Figure]) -> None:
    query = shown("phantom_21_z0028", note="reliability .93, 3000 masks\nRR 15.4, chance 7.5")
    others = [shown("near", True, distance=3.14159), shown("far", False, distance=1234.5678)]
    draw_explained_retrieval(query, others, tmp_path / "x.png", title="hog, run 0", caption="synthetic")
    (figure,) = drawn
    assert figure.get_suptitle() == "hog, run 0"
    assert texts(figure)[1:] == [
        *("CT, −200 to 300 HU", "Importance"),
        *("Query", "phantom_21_z0028", "liver", "0.500", "0.750", "reliability .93, 3000 masks"),
        "RR 15.4, chance 7.5",
        *("1", "✓ same label", "near", "liver", "distance 3.142", "0.500", "0.750"),
        *("2", "✗ other label", "far", "no liver", "distance 1235", "0.500", "0.750"),
        "synthetic",
        *texts(figure)[-3:],
    ]
    assert " ".join(texts(figure)[-3:]) == (
        "Solid frame, ✓: the query's label. Dashed frame, ✗: another label. White line: the liver. "
        "Importance: blue is least, red most important. Each map has its own range, given below it, and is "
        "darkened where its slice is dark."
    )


def test_the_key_explains_what_is_there_and_nothing_else(tmp_path: Path, drawn: list[Figure]) -> None:
    bare = {"outline": None, "importance": None}
    draw_explained_retrieval(shown("q", **bare), [shown("a", True, **bare)], tmp_path / "x.png", title="")
    draw_explained_retrieval(shown("q"), [shown("a", False)], tmp_path / "y.png", title="", organ="spleen")
    assert texts(drawn[0])[-1] == "Solid frame, ✓: the query's label."
    key = " ".join(texts(drawn[1])[-4:])
    assert "Dashed frame" in key and "Solid" not in key and "White line: the spleen." in key


def test_right_and_wrong_differ_by_sign_colour_and_frame(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_explained_retrieval(
        shown("q"), [shown("a", True), shown("b", False), shown("c")], tmp_path / "x.png", title=""
    )
    slices = [axes for axes in panels(drawn[0]) if axes.spines["left"].get_linewidth() > 2]
    frames = [axes.spines["left"] for axes in slices]
    assert [frame.get_linestyle() for frame in frames] == ["-", "-", "--", "-"]
    colours = [matplotlib.colors.to_hex(frame.get_edgecolor()) for frame in frames]
    assert colours[0] == colours[3] == "#000000"  # a slice of which neither is known has no mark
    assert len(set(colours)) == 3
    marks = {text.get_text(): text.get_color() for text in drawn[0].texts if "label" in text.get_text()[:13]}
    assert marks == {"✓ same label": colours[1], "✗ other label": colours[2]}


@pytest.mark.parametrize("sign", "✓✗−�")
def test_the_font_has_the_signs(sign: str) -> None:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    assert ord(sign) in get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()


def test_what_is_drawn_by_hand(tmp_path: Path, drawn: list[Figure]) -> None:
    hu = np.array([[-1000, -200], [50, 3000]], np.int16)  # 0, 0, .5 and 1 in the wide window
    importance = np.array([[0.2, 0.6], [0.4, 0.6]], np.float32)
    item = shown("a", True, hu=hu, outline=None, importance=importance)
    draw_explained_retrieval(item, [item], tmp_path / "x.png", title="")
    slice_panel, map_panel = panels(drawn[0])[2:]
    np.testing.assert_allclose(pixels(slice_panel), [[0, 0], [0.5, 1]])
    assert slice_panel.images[0].get_clim() == (0, 1)
    colours = np.array(matplotlib.colormaps["coolwarm"]([0.0, 1.0, 0.5, 1.0]))[:, :3].reshape(2, 2, 3)
    shade = np.array([[1 - SHADE, 1 - SHADE], [1 - SHADE / 2, 1]])
    np.testing.assert_allclose(pixels(map_panel), colours * shade[..., None], atol=0.02)
    lowest, highest = colours[0, 0], colours[0, 1]
    assert lowest[2] > 2 * lowest[0] and highest[0] > 2 * highest[2]  # blue and red


def test_another_window(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_explained_retrieval(
        shown("q"), [shown("a", True)], tmp_path / "x.png", title="", window=(50.0, 150.0)
    )
    assert "CT, 50 to 150 HU" in texts(drawn[0])
    assert not pixels(panels(drawn[0])[0]).any()  # 50 HU is its black


def test_each_map_has_its_own_range_and_a_scale_beneath(tmp_path: Path, drawn: list[Figure]) -> None:
    near = shown("a", True)
    assert near.importance is not None
    narrow = dataclasses.replace(near, importance=0.9 + near.importance / 1000)
    draw_explained_retrieval(shown("q"), [narrow], tmp_path / "x.png", title="")
    scales = [axes for axes in drawn[0].axes if strip(axes)]
    first, second = panels(drawn[0])[1::2]
    np.testing.assert_allclose(pixels(first), pixels(second), atol=0.01)
    assert "0.900500" in texts(drawn[0]) and "0.900750" in texts(drawn[0])
    for panel, scale in zip((first, second), scales, strict=True):
        upper, lower = panel.get_window_extent(), scale.get_window_extent()
        assert lower.x0 == pytest.approx(upper.x0) and lower.x1 == pytest.approx(upper.x1)
        assert 0 < upper.y0 - lower.y1 < 15
        steps = pixels(scale)[0]
        assert (steps[0], steps[-1]) == (0, 1) and (np.diff(steps) > 0).all()


@pytest.mark.parametrize("count", [1, 5, 6, 7, 11])
def test_lines_of_five_at_most(count: int, tmp_path: Path, drawn: list[Figure]) -> None:
    draw_explained_retrieval(shown("q"), retrieved(count), tmp_path / "x.svg", title="t")
    (figure,) = drawn
    assert len(panels(figure)) == 2 * (1 + count)
    places = [text.get_position() for text in figure.texts if text.get_text() in map(str, range(1, 12))]
    assert len(places) == count
    assert places == sorted(places, key=lambda place: (-place[1], place[0]))  # ranks run as one reads
    by_line = [len(list(line)) for _, line in itertools.groupby(places, key=lambda place: place[1])]
    assert max(by_line) <= 5 and len(by_line) == -(-count // 5) and by_line[0] == max(by_line)


def test_the_organ_is_outlined_on_slice_and_map(tmp_path: Path, drawn: list[Figure]) -> None:
    touching = np.zeros(SHAPE, bool)
    touching[:5, :5] = True
    items = [
        shown("touching", True, outline=touching),
        shown("full", True, outline=np.ones(SHAPE, bool)),
        shown("empty", False, outline=np.zeros(SHAPE, bool)),
        shown("none", False, outline=None),
    ]
    draw_explained_retrieval(shown("q"), items, tmp_path / "x.png", title="")
    for axes, lines in zip(panels(drawn[0]), [2, 2, 2, 2, 2, 2, 0, 0, 0, 0], strict=True):
        found = contours(axes)
        assert len(found) == lines  # black under white
        assert axes.get_xlim() == (-0.5, 23.5) and axes.get_ylim() == (23.5, -0.5)
    inside = np.asarray(contours(panels(drawn[0])[0])[0].get_paths()[0].vertices)
    assert (inside.min(), inside.max()) == (5.5, 11.5)  # 6 to 11 are in the mask
    corner = np.asarray(contours(panels(drawn[0])[2])[0].get_paths()[0].vertices)
    assert corner.min() == -0.5 and corner.max() == 4.5
    np.testing.assert_array_equal(corner[0], corner[-1])  # closed, though the organ is cut off


def test_pixels_without_a_value_are_grey_and_hatched(tmp_path: Path, drawn: list[Figure]) -> None:
    near = shown("a", True, outline=None)
    assert near.importance is not None
    partly = near.importance.copy()
    partly[:6], partly[6, 0] = np.nan, np.inf
    items = [
        dataclasses.replace(near, importance=partly),
        dataclasses.replace(near, importance=np.full(SHAPE, np.nan, np.float32)),
    ]
    draw_explained_retrieval(shown("q", outline=None), items, tmp_path / "x.png", title="")
    whole, part, nothing = panels(drawn[0])[1::2]
    assert [len(contours(axes)) for axes in (whole, part, nothing)] == [0, 1, 1]
    assert contours(part)[0].hatches and contours(part)[0].get_paths()[0].contains_point((12, 3))
    assert not contours(part)[0].get_paths()[0].contains_point((12, 12))
    np.testing.assert_array_equal(pixels(part)[:6], 0.5)  # 50 HU, without a colour
    np.testing.assert_array_equal(pixels(part)[6, 0], 0.5)
    assert (np.ptp(pixels(part)[7:], axis=2) > 0).any()
    np.testing.assert_array_equal(pixels(nothing), 0.5)
    found = texts(drawn[0])
    assert found.count("no value anywhere") == 1 and "Hatched: no value." in " ".join(found)
    assert "0.565" in found  # row 6 of 24, lowest that is left: .5 + .25 * 6 / 23
    assert len([axes for axes in drawn[0].axes if strip(axes)]) == 2  # no scale where there is no value


@pytest.mark.parametrize("noise", [0.0, 5e-8])
def test_a_map_of_one_value_is_no_low_one(noise: float, tmp_path: Path, drawn: list[Figure]) -> None:
    flat = np.full(SHAPE, 0.93, np.float32)
    flat[0] += np.float32(noise)  # what rounding leaves
    draw_explained_retrieval(shown("q"), [shown("a", True, importance=flat)], tmp_path / "x.png", title="")
    assert "0.930 throughout" in texts(drawn[0])
    middle = np.array(matplotlib.colormaps["coolwarm"](0.5))[:3] * (1 - SHADE / 2)
    np.testing.assert_allclose(pixels(panels(drawn[0])[3])[3, 3], middle)


def test_a_slice_without_a_map_says_why(tmp_path: Path, drawn: list[Figure]) -> None:
    why = "not explained: --explain-queries left it out"
    draw_explained_retrieval(
        shown("q"), [shown("a", True, importance=None, note=why)], tmp_path / "x.png", title=""
    )
    found = texts(drawn[0])
    assert found.count("No map") == 1
    assert why in " ".join(found)
    assert not panels(drawn[0])[3].images


def test_uncertainty_has_a_row_where_a_slice_has_it(tmp_path: Path, drawn: list[Figure]) -> None:
    spread = np.linspace(1e-5, 2e-4, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    query = shown("q", uncertainty=spread)
    draw_explained_retrieval(query, [shown("a", True)], tmp_path / "x.png", title="")
    draw_explained_retrieval(shown("q"), [shown("a", True)], tmp_path / "y.png", title="")
    with_it, without = drawn
    assert len(panels(with_it)) == 6 and len(panels(without)) == 4
    assert with_it.get_figheight() > without.get_figheight() + 1.6
    found = texts(with_it)
    assert "Uncertainty" in found and "No map" in found and "Uncertainty" not in texts(without)
    assert "0.000010" in found and "0.000200" in found
    colours = pixels(panels(with_it)[2])
    assert colours[0, 0].min() > colours[-1, -1].min()  # white to purple
    assert "white is least, purple most uncertain" in " ".join(found)


def test_slices_of_many_shapes_keep_theirs(tmp_path: Path, drawn: list[Figure]) -> None:
    shapes = [(122, 101), (101, 122), (512, 512), (1, 1), (3, 200)]
    items = [shown(f"{shape}", True, shape) for shape in shapes]
    draw_explained_retrieval(items[0], items, tmp_path / "x.png", title="")
    for axes, shape in zip(panels(drawn[0])[2::2], shapes[:4], strict=False):
        assert pixels(axes).shape == shape
        extent = axes.get_window_extent()
        assert extent.height / extent.width == pytest.approx(shape[0] / shape[1])


LONG = [
    "1.2.840.113704.1.111.2604.1126357612.7_z0123",
    "W" * 64,
    "costs $5 or $\\frac{1}$\nand \x1b[31m\x00 more",
    "肝臓 " * 20,
    "a study with a name of many words and_one_that_is_longer_than_a_panel_is_wide_z0001",
]


@pytest.mark.filterwarnings("ignore:Glyph")  # when they are measured again, here
@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_any_id_stays_in_its_column(ending: str, tmp_path: Path, drawn: list[Figure]) -> None:
    items = [shown(name, True, note=name) for name in LONG]
    draw_explained_retrieval(
        items[1], items, tmp_path / f"x{ending}", title="$ " + LONG[2], caption=" ".join(LONG)
    )
    if ending == ".svg":
        xml.dom.minidom.parse(str(tmp_path / "x.svg"))  # a control character would be no XML
    (figure,) = drawn
    extents = [text.get_window_extent() for text in figure.texts if text.get_text()]
    apart(extents, figure)
    for axes in figure.axes:
        box = axes.get_window_extent()
        for extent in extents:
            assert Bbox.intersection(box, extent) is None or not written_over(box, extent)
    assert "".join(texts(figure)).count("W" * 10) >= 3


def apart(extents: list[Bbox], figure: Figure) -> None:
    """No text lies on another, none hangs over the edge."""
    for extent in extents:
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width + 1
        assert extent.y0 >= 0 and extent.y1 <= figure.bbox.height
    for one, other in itertools.combinations(extents, 2):
        assert not written_over(one, other), (one, other)


def written_over(one: Bbox, other: Bbox) -> bool:
    """Whether they share more than the room that a line's accents would take."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(across > 1 and down > 4)


def test_ends_with_many_digits_stay_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    narrow = np.full(SHAPE, -0.002, np.float32)
    narrow[0] += np.float32(1e-8)
    draw_explained_retrieval(shown("q"), [shown("a", True, importance=narrow)], tmp_path / "x.png", title="")
    ends = [text for text in drawn[0].texts if text.get_text().startswith("−0.00")]
    assert len(ends) == 2 and ends[0].get_fontsize() < 7
    apart([text.get_window_extent() for text in ends], drawn[0])


@pytest.mark.parametrize(("count", "title"), [(1, ""), (1, "long " * 60), (6, "short")])
def test_nothing_hangs_over_the_edge(title: str, count: int, tmp_path: Path, drawn: list[Figure]) -> None:
    items = [dataclasses.replace(item, note="reliability .93") for item in retrieved(count)]
    draw_explained_retrieval(shown("q"), items, tmp_path / "x.png", title=title, caption="words " * 60)
    (figure,) = drawn
    written: list[Text] = [text for text in figure.texts if text.get_text()]
    apart([text.get_window_extent() for text in written], figure)
    title_end = min(
        [t.get_window_extent().y0 for t in written if title and t.get_text()[:4] == title[:4]] or [1e9]
    )
    assert max(axes.get_window_extent().y1 for axes in figure.axes) < title_end


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_equal_input_gives_equal_bytes(ending: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        hatched = shown("h", False)
        assert hatched.importance is not None
        hatched.importance[:4] = np.nan
        draw_explained_retrieval(
            shown("q", uncertainty=np.zeros(SHAPE, np.float32)),
            [shown("a", True), hatched],
            tmp_path / f"{name}{ending}",
            title="t",
        )
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"other{ending}").read_bytes()


def test_nothing_given_is_changed(tmp_path: Path) -> None:
    item = shown("a", True)
    assert item.importance is not None and item.outline is not None
    for layer in (item.hu, item.importance, item.outline):
        layer.flags.writeable = False
    draw_explained_retrieval(item, [item], tmp_path / "x.png", title="")


def test_nothing_retrieved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nothing was retrieved for 'liver_1_z0003'"):
        draw_explained_retrieval(shown("liver_1_z0003"), [], tmp_path / "x.png", title="")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layer", ["outline", "importance", "uncertainty"])
def test_layers_of_another_shape_are_refused(layer: str, tmp_path: Path) -> None:
    wrong = shown("liver_1_z0003", True, **{layer: np.zeros((24, 25), np.float32)})
    for query, others in ((wrong, [shown("a", True)]), (shown("q"), [shown("a", True), wrong])):
        with pytest.raises(
            DataError, match=r"'liver_1_z0003' has shape \(24, 24\), its \w+ \(24, 25\)"
        ) as caught:
            draw_explained_retrieval(query, others, tmp_path / "x.png", title="")
        assert layer in str(caught.value) and caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 5)])
def test_what_is_no_slice_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    wrong = shown("liver_1_z0003", True, hu=np.zeros(shape, np.int16))
    with pytest.raises(DataError, match="rows and columns, 'liver_1_z0003'"):
        draw_explained_retrieval(shown("q"), [wrong], tmp_path / "x.png", title="")


def test_an_empty_window_or_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HU window"):
        draw_explained_retrieval(
            shown("q"), [shown("a", True)], tmp_path / "x.png", title="", window=(300.0, -200.0)
        )
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        draw_explained_retrieval(shown("q"), [shown("a", True)], tmp_path / "x.jpg", title="")
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_comes_with_the_first_drawing() -> None:
    code = (
        "import sys, cbirbench.figures.explained_retrieval; print({'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (0.8312, 0.8471, ("0.8312", "0.8471")),
        (0.0, 1.0, ("0", "1.00")),
        (-0.02, 0.9, ("−0.020", "0.900")),
        (3.55e-15, 1.39e-4, ("0", "0.000139")),
        (1.2e-8, 3.4e-7, ("1.2e−8", "3.40e−7")),
        (0.9, 0.900001, ("0.90000000", "0.90000100")),
        (100.0, 25000.0, ("100", "25000")),
    ],
)
def test_ends_of_a_range_by_hand(low: float, high: float, written: tuple[str, str]) -> None:
    assert (_rounded(low, high - low), _rounded(high, high - low)) == written


@given(
    low=st.floats(-10, 10, allow_subnormal=False),
    span=st.floats(1e-6, 10),
    factor=st.sampled_from([1, 1e-3, 1e-9]),
)
def test_ends_of_a_range_are_told_apart(low: float, span: float, factor: float) -> None:
    ends = (low * factor, (low + span) * factor)
    # A narrower range is no range in float32.
    assume(ends[1] - ends[0] > 4e-7 * max(map(abs, ends)))
    written = [_rounded(end, ends[1] - ends[0]) for end in ends]
    for end, text in zip(ends, written, strict=True):
        assert float(text.replace("−", "-")) == pytest.approx(end, abs=0.0051 * (ends[1] - ends[0]))
        assert len(text) <= 16
