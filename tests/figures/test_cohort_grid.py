from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cbirbench.checking.scan_views import scan_views
from cbirbench.errors import UsageError
from cbirbench.figures.cohort_grid import NOTICE, GridRow, draw_cohort_grid

VOXEL_MM = (1.0, 1.0, 0.5)


def row(title: str, slices: int = 12, *, masked: bool = True, facts: str = "NIfTI · stored LPS") -> GridRow:
    hu = np.random.default_rng(0).integers(-1000, 1000, (slices, 10, 16)).astype(np.int16)
    target = np.zeros(hu.shape, bool)
    target[:, 2:6, 3:9] = True
    return GridRow(title, facts, scan_views(hu, target if masked else None, VOXEL_MM, (5, 8)))


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_a_row_a_scan_with_its_planes_in_millimetres(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [row("first"), row("second", masked=False)]
    draw_cohort_grid(rows, tmp_path / "x.png", title="Scans", organ="liver")
    (figure,) = drawn
    assert figure.get_suptitle() == "Scans"
    assert len(figure.axes) == 10
    for axes, view in zip(figure.axes, [*rows[0].views, *rows[1].views], strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), view.hu)
        assert image.get_clim() == (-200, 300)
        assert bool(axes.collections) == (view.outline is not None)
        box, (height, width) = axes.get_window_extent(), view.hu.shape
        assert box.height / box.width == pytest.approx(height * view.aspect / width)
        letters = {text.get_text(): text.get_window_extent() for text in axes.texts}
        assert (
            set(letters) == {"axial": set("RLA"), "coronal": set("RLS"), "sagittal": set("APS")}[view.plane]
        )
        left, right = ("A", "P") if view.plane == "sagittal" else ("R", "L")
        assert letters[left].x1 < box.x0 + box.width / 4 and letters[right].x0 > box.x1 - box.width / 4
        assert all(box.x0 <= letter.x0 and letter.x1 <= box.x1 for letter in letters.values())
    shown = texts(figure)
    for word in ("first", "second", "NIfTI · stored LPS", "White line: the liver", NOTICE, "coronal, row 3"):
        assert word in shown


def test_what_could_not_be_read_is_said_in_its_row(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [GridRow("broken", "DICOM", (), "It is truncated. Copy it again."), row("whole", masked=False)]
    draw_cohort_grid(rows, tmp_path / "x.png", title="")
    (figure,) = drawn
    assert "It is truncated. Copy it again." in texts(figure)
    assert "White line" not in texts(figure)
    assert len(figure.axes) == 5


def test_nothing_hangs_over_the_edge_or_over_another(tmp_path: Path, drawn: list[Figure]) -> None:
    long = "a rather long description · " * 12
    rows = [row("1.2.840.113704.1.111.2604.1126357612.7" * 2, facts=long), GridRow("b", "", (), long * 2)]
    draw_cohort_grid([*rows, row("c", slices=2)], tmp_path / "x.png", title="Scans as they are read")
    (figure,) = drawn
    boxes = [text.get_window_extent() for text in figure.texts] + [a.get_window_extent() for a in figure.axes]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width
        assert box.y0 >= 0 and box.y1 <= figure.bbox.height
    for place, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:place])


def test_letters_hide_no_thin_plane(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_cohort_grid([row("x", slices=1)], tmp_path / "x.png", title="")
    assert len(drawn[0].axes) == 3
    axial, *thin = drawn[0].axes
    for axes, outside in ((axial, False), *((axes, True) for axes in thin)):
        box = axes.get_window_extent()
        assert [text.get_window_extent().y0 > box.y1 for text in axes.texts] == [outside] * 3


def test_equal_scans_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_cohort_grid([row("x")], tmp_path / name, title="Scans")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gif"):
        draw_cohort_grid([row("x")], tmp_path / "x.gif", title="")
    assert list(tmp_path.iterdir()) == []
