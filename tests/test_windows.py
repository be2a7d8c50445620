from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms.v2.functional import resize as torchvision_resize

from cbirbench.errors import UsageError
from cbirbench.interfaces import Options, option
from cbirbench.settings import Settings, parse_assignments
from cbirbench.windows import (
    NARROW_WINDOW,
    ORGAN_WINDOWS,
    WIDE_WINDOW,
    NarrowHUWindow,
    WideHUWindow,
    apply_window,
    check_window,
    resize,
    wide_window_images,
)

hounsfield = st.lists(st.integers(-32768, 32767), min_size=1, max_size=30)
windows = st.tuples(st.integers(-2000, 2000), st.integers(1, 3000)).map(
    lambda start: (float(start[0]), float(start[0] + start[1]))
)


def test_the_papers_windows() -> None:
    assert WIDE_WINDOW == (-200, 300)
    assert NARROW_WINDOW == (50, 150)


@pytest.mark.parametrize(
    ("window", "scale", "values"),
    [
        (WIDE_WINDOW, None, [0, 0, 0.4, 0.5, 0.6, 0.7, 1, 1]),
        (NARROW_WINDOW, None, [0, 0, 0, 0, 0.5, 1, 1, 1]),
        (NARROW_WINDOW, WIDE_WINDOW, [0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7]),
    ],
)
def test_by_hand(window: tuple[float, float], scale: tuple[float, float] | None, values: list[float]) -> None:
    hu = torch.tensor([-1024, -200, 0, 50, 100, 150, 300, 3071], dtype=torch.int16)
    windowed = apply_window(hu, window, scale)
    assert windowed.dtype == torch.float32
    torch.testing.assert_close(windowed, torch.tensor(values, dtype=torch.float32))


@settings(deadline=None)
@given(hounsfield, windows)
def test_stays_in_0_to_1_and_keeps_order(values: list[int], window: tuple[float, float]) -> None:
    hu = torch.tensor(sorted(values), dtype=torch.int16)
    windowed = apply_window(hu, window)
    assert windowed.shape == hu.shape
    assert windowed.min() >= 0
    assert windowed.max() <= 1
    assert torch.all(windowed.diff() >= 0)
    assert torch.all(windowed[hu <= window[0]] == 0)
    assert torch.all(windowed[hu >= window[1]] == 1)


@settings(deadline=None)
@given(hounsfield)
def test_the_released_scaling_spans_a_fifth(values: list[int]) -> None:
    hu = torch.tensor([*values, 50, 150], dtype=torch.int16)
    windowed = apply_window(hu, NARROW_WINDOW, WIDE_WINDOW)
    assert windowed.min() == pytest.approx(0.5)
    assert windowed.max() == pytest.approx(0.7)


@settings(deadline=None)
@given(hounsfield, st.floats(-2000, 2000), st.floats(0.01, 3000))
def test_windows_with_broken_ends_keep_to_0_to_1(values: list[int], low: float, width: float) -> None:
    windowed = apply_window(torch.tensor(values, dtype=torch.int16), (low, low + width))
    assert windowed.min() >= 0
    assert windowed.max() <= 1


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
def test_what_is_windowed_stays_as_it_was(dtype: torch.dtype) -> None:
    hu = torch.tensor([-500, 0, 500], dtype=dtype)
    assert apply_window(hu, WIDE_WINDOW).tolist() == pytest.approx([0, 0.4, 1])
    assert hu.tolist() == [-500, 0, 500]


def test_a_scale_narrower_than_the_window_is_clipped() -> None:
    assert apply_window(torch.tensor([0.0, 5.0, 10.0]), (0, 10), (4, 6)).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("window", [(300.0, -200.0), (50.0, 50.0), (float("nan"), 1.0)])
def test_a_window_needs_a_width(window: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="lower end below its upper end"):
        check_window(*window)
    with pytest.raises(UsageError):
        apply_window(torch.zeros(1), window)
    with pytest.raises(UsageError):
        apply_window(torch.zeros(1), WIDE_WINDOW, window)


def test_resizing_to_the_same_size_is_the_identity() -> None:
    images = torch.rand(2, 1, 7, 7)
    assert resize(images, 7) is images


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_resizing_is_torchvisions_and_stays_in_0_to_1(side: int, size: int, seed: int) -> None:
    images = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(seed))
    resized = resize(images, size)
    assert resized.shape == (2, 1, size, size)
    assert resized.min() >= 0
    assert resized.max() <= 1
    torch.testing.assert_close(resized, torchvision_resize(images, [size, size], antialias=True))


def test_shrinking_averages_rather_than_drops() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    shrunk = resize(stripes, 8)
    assert 0.45 < float(shrunk.min()) < float(shrunk.max()) < 0.55


def test_the_usual_prepare() -> None:
    hu = torch.tensor([[[-200, 300], [50, -1024]]], dtype=torch.int16)
    images = wide_window_images(hu, 2)
    assert images.shape == (1, 1, 2, 2)
    assert images[0, 0].tolist() == [[0, 1], [0.5, 0]]
    assert wide_window_images(hu, 2, NARROW_WINDOW)[0, 0].tolist() == [[0, 1], [0, 0]]
    assert wide_window_images(hu.repeat(3, 1, 1), 5).shape == (3, 1, 5, 5)


class Both(Options):
    wide: WideHUWindow = option(WIDE_WINDOW, description="Wide.")
    narrow: NarrowHUWindow = option(NARROW_WINDOW, description="Narrow.")


def settings_of(*texts: str) -> tuple[Settings, Both]:
    given = Settings("paper", {}, parse_assignments([f"both.{text}" for text in texts]))
    options = given.resolve(Both, ["both"])
    assert isinstance(options, Both)
    return given, options


def test_every_organs_windows_are_in_order_and_nested() -> None:
    assert set(ORGAN_WINDOWS) == {"liver", "spleen", "pancreas", "colon", "hepatic-vessel", "lung"}
    for organ in ORGAN_WINDOWS.values():
        check_window(*organ.wide)
        check_window(*organ.narrow)
        assert organ.wide[0] <= organ.narrow[0] < organ.narrow[1] < organ.wide[1]
        assert organ.narrow[1] - organ.narrow[0] < (organ.wide[1] - organ.wide[0]) / 2
        assert organ.source


@pytest.mark.parametrize(
    ("name", "mean", "deviation"),
    [
        ("liver", 99.4, 39.36),
        ("spleen", 99.29, 39.47),
        ("pancreas", 77.99, 75.4),
        ("colon", 62.18, 32.65),
        ("hepatic-vessel", 104.37, 52.62),
    ],
)
def test_narrow_windows_hold_the_papers_share_of_deviations(name: str, mean: float, deviation: float) -> None:
    """docs/windows.md: the published mean, 1.27 deviations to either side, rounded to 5 HU."""
    ends = (5 * round((mean + sign * 1.27 * deviation) / 5) for sign in (-1, 1))
    assert ORGAN_WINDOWS[name].narrow == tuple(ends)
    source = ORGAN_WINDOWS[name].source
    assert name == "liver" or (str(mean) in source and str(deviation) in source)


@pytest.mark.parametrize("name", list(ORGAN_WINDOWS))
def test_an_organs_name_becomes_hounsfield_units(name: str) -> None:
    _, options = settings_of(f"wide={name}", f"narrow={name}")
    assert options.wide == ORGAN_WINDOWS[name].wide
    assert options.narrow == ORGAN_WINDOWS[name].narrow
    dumped = options.model_dump(mode="json")
    assert dumped == {"wide": list(options.wide), "narrow": list(options.narrow)}
    assert Both.model_validate(dumped) == options
    assert Both(wide=name, narrow=name) == options


@pytest.mark.parametrize(
    ("text", "narrow"),
    [
        ("Spleen", (50, 150)),
        (" LUNG ", (-1000, -600)),
        ("hepatic_vessel", (40, 170)),
        ("Hepatic  vessel", (40, 170)),
        ("0,150", (0, 150)),
        (" -10.5 , 1e3 ", (-10.5, 1000)),
        ("-3,-1", (-3, -1)),
    ],
)
def test_ways_of_writing_a_window(text: str, narrow: tuple[float, float]) -> None:
    _, options = settings_of(f"narrow={text}")
    assert options.narrow == narrow
    assert all(type(end) is float for end in options.narrow)


def test_the_livers_name_is_no_departure_from_the_paper() -> None:
    given, options = settings_of("wide=liver", "narrow=liver")
    assert options == Both()
    assert given.title() == "paper"
    assert settings_of("narrow=pancreas")[0].title() == "paper (changed: narrow)"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("150,50", ["'150,50'", "lower end below its upper end, got 150,50", "other way round it is 50,150"]),
        ("50,50", ["lower end below its upper end, got 50,50, which is empty"]),
        ("splen", ["'splen'", "no organ of that name", "Did you mean 'spleen'?", "LOW,HIGH", "pancreas"]),
        ("vessels", ["Did you mean 'hepatic-vessel'?"]),
        (
            "brain",
            ["'brain'", "no organ of that name has windows here. Give LOW,HIGH in HU", "hepatic-vessel"],
        ),
        ("", ["''", "no organ of that name"]),
        ("50", ["one number is no window", "-200,300"]),
        ("low,high", ["'low' is no finite number"]),
        ("50,high", ["'high' is no finite number"]),
        ("nan,1", ["'nan' is no finite number"]),
        ("0,inf", ["'inf' is no finite number"]),
        ("spleen,300", ["'spleen' is no finite number"]),
        ("1,2,3", ["an HU window is LOW,HIGH in HU"]),
    ],
)
def test_what_is_no_window_is_refused_with_a_reason(value: str, says: list[str]) -> None:
    for kind in ("wide", "narrow"):
        with pytest.raises(UsageError) as caught:
            settings_of(f"{kind}={value}")
        for words in (f"both.{kind} does not take", f"--set both.{kind}=VALUE", *says):
            assert words in str(caught.value)


@pytest.mark.parametrize(
    "value", [5, None, {"low": 1}, (), (1, 2, 3), (300, -200), (float("nan"), 1), ("a", 1)]
)
def test_a_program_gets_the_same_refusals(value: object) -> None:
    with pytest.raises(ValidationError, match=r"window|finite number"):
        Both.model_validate({"wide": value})
