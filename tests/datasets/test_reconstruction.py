import numpy as np
import pytest
from scipy.ndimage import label

from cbirbench.datasets.anatomy_shapes import KIDNEY, SPLEEN, Canvas, Pose
from cbirbench.datasets.reconstruction import Scan

SIZE = 96


@pytest.fixture(scope="module")
def scans() -> list[Scan]:
    return [Scan(0, index, SIZE) for index in range(5)]


def test_a_slice_depends_on_seed_body_and_position_alone():
    np.random.seed(1)
    scan = Scan(3, 1, SIZE)
    before = [scan.render(z) for z in (4, 30, 20)]
    np.random.seed(2)
    other = Scan(3, 1, SIZE)
    after = [other.render(z) for z in (20, 4)]
    np.testing.assert_array_equal(before[2][0], after[0][0])
    np.testing.assert_array_equal(before[0][0], after[1][0])
    np.testing.assert_array_equal(before[2][1], after[0][1])
    assert (scan.render(4)[0] != scan.render(5)[0]).mean() > 0.3
    assert (Scan(4, 1, SIZE).render(4)[0] != before[0][0]).mean() > 0.3


def test_noise_is_each_slice_s_own():
    scan = Scan(0, 0, SIZE)
    clean = np.zeros((SIZE, SIZE), dtype=np.float32)
    first, again, next_ = (scan._reconstruct(clean, z)[24:72, 24:72].astype(float) for z in (10, 10, 11))
    np.testing.assert_array_equal(first, again)
    assert first.std() > 3
    assert abs(np.corrcoef(first.ravel(), next_.ravel())[0, 1]) < 0.15


def test_the_masks_say_which_slices_show_liver(scans):
    for scan in scans:
        shown = scan.shows_liver()
        masks = [scan.mask(z) for z in range(scan.count)]
        np.testing.assert_array_equal(shown, [mask.any() for mask in masks])
        for z in (0, int(np.flatnonzero(shown)[0]), int(np.flatnonzero(shown)[-1])):
            rendered = scan.render(z)[1]
            np.testing.assert_array_equal(np.where(rendered <= 2, rendered, 0), masks[z])


def test_there_are_liver_free_slices_on_either_side(scans):
    for scan in scans:
        shown = np.flatnonzero(scan.shows_liver())
        assert shown[0] > 0 and shown[-1] < scan.count - 1
        assert len(shown) >= 10 and scan.count - len(shown) >= 10


def test_the_liver_is_one_organ(scans):
    for scan in scans:
        organ = np.stack([scan.mask(z) for z in range(scan.count)]) > 0
        parts, count = label(organ)
        assert np.bincount(parts.ravel())[1:].max() > 0.97 * organ.sum(), count


def test_slices_hold_hounsfield_units_of_the_tissues(scans):
    for scan in scans:
        shown = np.flatnonzero(scan.shows_liver())
        livers = []
        for z in (shown[len(shown) // 3], shown[len(shown) // 2]):
            hu, mask = scan.render(int(z))
            assert hu.dtype == np.int16 and mask.dtype == np.uint8 and hu.shape == mask.shape == (SIZE, SIZE)
            assert hu.min() >= -1024 and hu.max() > 200 and set(np.unique(mask)) <= set(range(7))
            assert (hu < -900).mean() > 0.1 and 0.1 < ((hu > -200) & (hu < 300)).mean() < 0.8
            livers.append(hu[mask == 1])
        assert np.median(np.concatenate(livers)) == pytest.approx(scan.body.tissue.liver, abs=14)


def test_what_is_painted_over_a_structure_is_no_longer_its():
    y, x = np.mgrid[-30:31, -30:31].astype(np.float32)
    canvas = Canvas(x, y, 0.0, Pose((1.0, 1.0, 1.0), 0.0, (0.0, 0.0), (0.0, 0.0)), 1.0, 2.0)
    canvas.paint(np.hypot(x, y) - 20.0, 50.0, structure=SPLEEN)
    canvas.blob((0.0, 0.0, 0.0), (10.5, 10.5, 10.5), 0.0)
    canvas.paint(np.hypot(x, y)[30:] - 5.5, 80.0, np.s_[30:, :], KIDNEY)
    radius = np.hypot(x, y)
    expected = np.where((radius < 20.0) & (radius >= 10.5), SPLEEN, 0)
    expected[30:][radius[30:] < 5.5] = KIDNEY
    np.testing.assert_array_equal(canvas.structures, expected)


def test_tumours_are_darker_than_the_liver():
    checked = 0
    for index in range(12):
        scan = Scan(0, index, SIZE)
        for centre, radii, _ in scan.body.tumours:
            z = round((centre[2] - scan._height(0)) / (scan._height(1) - scan._height(0)))
            hu, mask = scan.render(z)
            if radii[2] > 8 and (mask == 2).sum() > 12:
                assert np.median(hu[mask == 2]) < np.median(hu[mask == 1]) - 10
                checked += 1
    assert checked >= 3


def test_scans_differ_in_coverage_and_grid():
    scans = [Scan(0, index, SIZE) for index in range(30)]
    steps, pixels = {scan.spacing_mm[2] for scan in scans}, [scan.spacing_mm[0] for scan in scans]
    assert len(steps) >= 4
    assert max(pixels) > 1.2 * min(pixels)
    starts, stops = [scan._height(0) for scan in scans], [scan._height(scan.count - 1) for scan in scans]
    assert max(starts) - min(starts) > 100
    assert max(stops) - min(stops) > 60


def test_a_scan_shows_the_same_body_at_any_size():
    small, large = Scan(0, 2, 64), Scan(0, 2, 192)
    assert small.count == large.count
    z = int(np.flatnonzero(large.shows_liver())[20])
    assert (small.mask(z) > 0).mean() == pytest.approx((large.mask(z) > 0).mean(), rel=0.05)
    assert small.spacing_mm[0] == pytest.approx(3 * large.spacing_mm[0])
