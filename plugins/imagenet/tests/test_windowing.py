import pytest
import torch
from cbirbench_imagenet import BackboneOptions, window_hu
from pydantic import ValidationError

WIDE, NARROW = (-200.0, 300.0), (50.0, 150.0)


def test_plain_windowing_is_exact_at_hand_worked_points() -> None:
    hu = torch.tensor([-1024, -200, -100, 50, 300, 2000], dtype=torch.int16)
    expected = torch.tensor([0, 0, 0.2, 0.5, 1, 1])
    torch.testing.assert_close(window_hu(hu, WIDE), expected)


def test_narrow_window_by_wide_scale_spans_half_to_seven_tenths() -> None:
    hu = torch.tensor([-1000, 50, 100, 150, 1000], dtype=torch.int16)
    expected = torch.tensor([0.5, 0.5, 0.6, 0.7, 0.7])
    torch.testing.assert_close(window_hu(hu, NARROW, WIDE), expected)


def test_truncation_rounds_down_as_a_cast_to_uint8_does() -> None:
    hu = torch.arange(-300, 400, dtype=torch.int16)
    exact = ((hu.double().clamp(*WIDE) + 200) / 500 * 255).to(torch.uint8)
    got = window_hu(hu, WIDE, truncate_to_uint8=True) * 255
    assert torch.equal(got.round().to(torch.uint8), exact)
    assert (got - got.round()).abs().max() < 1e-4
    assert not torch.equal(window_hu(hu, WIDE), window_hu(hu, WIDE, truncate_to_uint8=True))


def test_the_window_can_be_an_organs() -> None:
    assert BackboneOptions(window="lung").window == (-1000, 300)
    assert BackboneOptions(window="liver") == BackboneOptions()


@pytest.mark.parametrize("window", [(300.0, -200.0), (50.0, 50.0)])
def test_a_window_upside_down_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="lower end below its upper end"):
        BackboneOptions(window=window)
