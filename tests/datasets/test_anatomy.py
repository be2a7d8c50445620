import numpy as np
import pytest

from cbirbench.datasets.anatomy import Body, Section

AXIS = np.arange(-190.0, 190.0, 4.0, dtype=np.float32)
X, Y = np.broadcast_to(AXIS[None, :], (95, 95)).copy(), np.broadcast_to(AXIS[:, None], (95, 95)).copy()
BODIES = [Body(0, index) for index in range(6)]


def test_a_body_is_its_seed_and_number():
    np.random.seed(1)
    first = Body(5, 2)
    np.random.seed(2)
    again = Body(5, 2)
    assert first.tissue == again.tissue and first.pose == again.pose and first.tumours == again.tumours
    assert Body(5, 3).pose != first.pose
    assert Body(6, 2).pose != first.pose


def test_livers_differ_in_attenuation_as_phases_and_patients_do():
    tissues = [Body(0, index).tissue for index in range(80)]
    livers = np.array([tissue.liver for tissue in tissues])
    assert 20 < livers.min() < 65 and 115 < livers.max() < 135
    portal = np.array([tissue.liver for tissue in tissues if 120 < tissue.artery < 200 and tissue.liver > 90])
    assert len(portal) > 40
    assert all(tissue.tumour < tissue.liver - 20 for tissue in tissues)


def test_some_livers_have_tumours_and_some_have_none():
    counts = [len(Body(0, index).tumours) for index in range(40)]
    assert 0 < counts.count(0) < 20
    assert max(counts) >= 4


@pytest.mark.parametrize("body", BODIES)
def test_the_liver_lies_in_the_right_upper_abdomen(body):
    right = left = 0
    for z in np.arange(-180.0, 140.0, 12.0):
        section = Section.of(body, X, Y, float(z))
        if section.liver is None:
            continue
        liver = section.liver < 0
        right, left = right + int(liver[X < 0].sum()), left + int(liver[X > 0].sum())
        assert (section.cavity[liver] < 0).all()
        assert (section.lungs[liver] >= 0).all()
        assert (section.dome[liver] > z).all()
        if section.tumour is not None:
            assert liver[section.tumour < 0].all()
    assert right > 3 * left > 0


@pytest.mark.parametrize("body", BODIES)
def test_outside_its_range_there_is_no_liver(body):
    low, high = body.liver_range
    for z in (low - 30.0, low - 4.0, low, high, high + 4.0, high + 30.0):
        whole = body.liver(X, Y, z, body.cavity(X, Y, z), body.dome(X, Y))
        assert (whole > 0).all()
    middle = body.lift
    assert (body.liver(X, Y, middle, body.cavity(X, Y, middle), body.dome(X, Y)) < 0).any()


@pytest.mark.parametrize("body", BODIES)
def test_the_lung_overlaps_the_liver_s_dome(body):
    """The lung's base hangs around the dome: slices that show both."""
    both = 0
    for z in np.arange(0.0, 130.0, 6.0):
        section = Section.of(body, X, Y, float(z))
        if section.liver is not None and (section.liver < 0).any() and (section.lungs < 0).any():
            both += 1
    assert both >= 3


@pytest.mark.parametrize("z", [-300.0, -150.0, 0.0, 120.0, 220.0])
def test_cavity_lies_within_muscle_within_skin(z):
    for body in BODIES:
        cavity, muscle, skin = (shape(X, Y, z) < 0 for shape in (body.cavity, body.muscle, body.skin))
        assert (muscle | ~cavity).all()
        assert (skin | ~cavity).all()
        assert skin.sum() > muscle.sum() > cavity.sum() > 0
