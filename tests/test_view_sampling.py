from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cbirbench import registry, view_sampling
from cbirbench.cli import app
from cbirbench.console import ConsoleProgress
from cbirbench.errors import DataError, PluginError, UsageError
from cbirbench.slices import pad_to_square
from cbirbench.store import Store
from cbirbench.view_sampling import DrawnViews, ViewRequest, draw_sample_views

pytestmark = pytest.mark.usefixtures("fake_plugins")

SHIPPED = ("hu-clip", "wide-window")


class Picture:
    """What was handed to the figure."""

    def __init__(self) -> None:
        self.slices: list[Any] = []
        self.views: Any = None
        self.path = Path()
        self.titles: list[str] = []
        self.caption = ""

    def __call__(self, slices: Any, views: Any, path: Path, *, titles: list[str], caption: str) -> None:
        self.slices, self.views, self.path = slices, views, path
        self.titles, self.caption = titles, caption


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> Picture:
    """Stands for the drawing, which has tests of its own."""
    caught = Picture()
    monkeypatch.setattr(view_sampling, "draw_view_pairs", caught)
    return caught


def draw(tmp_path: Path, **asked: Any) -> DrawnViews:
    request = ViewRequest(
        **({"benchmark": "blobs", "augmentation": "hu-clip", "size": 32, "count": 2} | asked)
    )
    store = Store(tmp_path / "cache")
    return draw_sample_views(request, tmp_path / "views.png", store, ConsoleProgress(None, quiet=True))  # type: ignore[arg-type]


def scans_read(tmp_path: Path) -> int:
    return next(usage.entries for usage in Store(tmp_path / "cache").usage() if usage.kind == "slices")


def test_one_slice_a_scan_and_no_other_scan_is_read(tmp_path: Path, picture: Picture) -> None:
    draw(tmp_path, count=3, assignments=("blobs.scans=30",))
    assert len({title.partition("-")[0] for title in picture.titles}) == 3
    assert all(re.fullmatch(r"g\d+-[01]", title) for title in picture.titles)  # of the gallery
    assert scans_read(tmp_path) == 3


def test_with_fewer_scans_each_gives_one_before_any_gives_two(tmp_path: Path, picture: Picture) -> None:
    draw(tmp_path, count=3)
    assert sorted({title.partition("-")[0] for title in picture.titles}) == ["g0", "g1"]
    draw(tmp_path, count=4)
    assert picture.titles == ["g0-0", "g0-1", "g1-0", "g1-1"]


def test_more_slices_than_there_are(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(UsageError, match=r"--count 5 .* 'blobs' has 4") as caught:
        draw(tmp_path, count=5)
    assert "--count 4" in caught.value.remedy


@pytest.mark.parametrize("name", SHIPPED)
def test_views_are_the_augmentations_own(name: str, tmp_path: Path, picture: Picture) -> None:
    draw(tmp_path, augmentation=name, count=4, seed=7)
    plugin = registry.load(registry.find("augmentation", name))
    augmentation = plugin(plugin.options_type())
    hu = [torch.from_numpy(pad_to_square(item)) for item in picture.slices]
    assert picture.slices[0].shape == (12, 10)  # the slice itself is shown as it is
    parameters = augmentation.sample(4, torch.Generator().manual_seed(7))
    for found, expected in zip(picture.views, augmentation.apply(hu, parameters, 32), strict=True):
        assert found.shape == (4, 32, 32)
        np.testing.assert_array_equal(found, expected[:, 0].numpy())


def test_the_seed_decides_slices_and_views(tmp_path: Path, picture: Picture) -> None:
    def drawn(seed: int) -> tuple[list[str], Any]:
        draw(tmp_path, count=3, seed=seed, assignments=("blobs.scans=12",))
        return picture.titles, picture.views

    titles, views = drawn(3)
    again, same = drawn(3)
    assert again == titles
    np.testing.assert_array_equal(same, views)
    others = [drawn(seed) for seed in range(4, 8)]
    assert any(found != titles for found, _ in others)
    assert not any(np.array_equal(found, views) for _, found in others)


def test_options_come_from_the_profile_and_the_user(tmp_path: Path, picture: Picture) -> None:
    plain = draw(tmp_path, profile="released-code")
    assert plain.title == "blobs (synthetic): views by hu-clip at 32 px, profile released-code, seed 0"
    assert list(plain.departures) == list(plain.notes) == []
    # Scaled by the wide window's ends, the narrow one spans .5 to .7, and jitter makes no pixel black.
    assert picture.views[1].min() > 0.2
    changed = draw(tmp_path, assignments=("hu-clip.narrow=40,120", "blobs.scans=3", "hu-clip.flip=0.5"))
    assert "profile paper (changed: narrow, scans)" in changed.title
    assert sorted(changed.departures) == [
        "blobs.scans 3, not 2 (by the user)",
        "hu-clip.narrow [40.0, 120.0], not [50.0, 150.0] (by the user)",
    ]
    title, options, *departures = picture.caption.split("\n")
    assert [title, *departures] == [changed.title, *changed.departures]
    assert "wide [-200.0, 300.0]" in options
    assert "narrow [40.0, 120.0], narrow_scale own" in options
    assert picture.views[1].min() == 0


def test_assignments_for_others_are_pointed_out(tmp_path: Path, picture: Picture) -> None:
    given = ("run.runs=3", "relax.masks=5", "wide-window.flip=0", "brightness.threads=2")
    drawn = draw(tmp_path, assignments=given)
    assert [note.partition(" has no effect")[0] for note in drawn.notes] == [f"--set {g}" for g in given]
    assert drawn.notes[0].endswith("only a run uses it.")
    assert "changed" not in drawn.title


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"benchmark": "blob"}, "Did you mean 'blobs'?"),
        ({"augmentation": "hu-clips"}, "Did you mean 'hu-clip'?"),
        ({"count": 0}, "--count needs a whole number from 1 to 64, got 0"),
        ({"count": 65}, "got 65"),
        ({"size": 31}, "--size needs a whole number of pixels from 32 to 2048, got 31"),
        ({"size": 2049}, "got 2049"),
        ({"data": Path("scans")}, "reads no scans"),
        ({"assignments": ("hu-clip.narow=1,2",)}, "Did you mean 'narrow'?"),
        ({"assignments": ("hu-clip.narrow=150,50",)}, "lower end below its upper end"),
        ({"assignments": ("hu-clp.narrow=1,2",)}, "Did you mean 'hu-clip'?"),
        ({"assignments": ("run.rums=1",)}, "Did you mean 'runs'?"),
        ({"assignments": ("relax.masks=0",)}, "relax.masks"),
        ({"assignments": ("blobs.scans=0",)}, "has no gallery scans"),
    ],
)
def test_a_mistake_is_a_usage_error(
    asked: Mapping[str, Any], says: str, tmp_path: Path, picture: Picture
) -> None:
    with pytest.raises(UsageError) as caught:
        draw(tmp_path, **asked)
    assert says in str(caught.value)
    assert caught.value.remedy
    assert picture.titles == []


def test_a_scan_that_cannot_be_used(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(DataError, match="g0 is truncated"):
        draw(tmp_path, count=2, assignments=("blobs.bad=g0",))


BAD = """
from cbirbench.interfaces import Options
import torch

class Bad:
    interface_version = 1
    options_type = Options
    def __init__(self, options): pass
    def fingerprint(self): return {{}}
    def sample(self, count, generator): return {{}}
    def apply(self, hu, parameters, size):
        good = torch.zeros(len(hu), 1, size, size)
        return {result}
"""


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("good, good[:1]", r"view 2 with shape \(1, 1, 32, 32\) instead of \(2, 1, 32, 32\)"),
        ("good + 2, good", "view 1 with values from 2 to 2, outside 0..1"),
        ("good, good - 0.5", "view 2 with values from -0.5 to -0.5"),
        ("good, good / 0", "view 2 with NaN or infinity"),
        ("good, None", "view 2 with type NoneType"),
        ("(good, good, good)", "failed: ValueError"),
        ("missing", "failed: NameError"),
    ],
)
def test_an_augmentation_that_breaks_its_promise(
    result: str, says: str, tmp_path: Path, picture: Picture, install: Any
) -> None:
    install("bad-views", {"augmentation": {"bad": "bad_views:Bad"}}, {"bad_views": BAD.format(result=result)})
    with pytest.raises(PluginError, match=says) as caught:
        draw(tmp_path, augmentation="bad", count=2)
    assert "'bad' of bad-views" in str(caught.value)
    assert picture.titles == []


def cbirbench(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["views", "blobs", "--size", "32", "--count", "2", *arguments])


@pytest.mark.parametrize("name", [*SHIPPED, "mirroring"])
def test_the_command_writes_a_picture_and_says_what_it_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cbirbench("--augmentation", name, "--set", "blobs.scans=3")
    assert result.exit_code == 0, result.output
    written = result.stdout.splitlines()
    assert written[0].startswith(f"Wrote views.png: blobs (synthetic): views by {name} at 32 px")
    assert written[1:] == ["  changed: blobs.scans 3, not 2 (by the user)"]
    first = (tmp_path / "views.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert cbirbench("--augmentation", name, "--set", "blobs.scans=3").exit_code == 0
    assert (tmp_path / "views.png").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--augmentation", "hu-clap"], 2, "Did you mean 'hu-clip'?"),
        (["--augmentation", "hu-clip", "--count", "0"], 2, "--count"),
        (["--augmentation", "hu-clip", "--size", "8"], 2, "--size"),
        (["--augmentation", "hu-clip", "--out", "views.jpg"], 2, ".png, .svg, .pdf"),
        (["--augmentation", "hu-clip", "--out", "views"], 2, "no ending"),
        (["--augmentation", "hu-clip", "--out", "file/views.png"], 1, "could not be written"),
        (["--augmentation", "hu-clip", "--out", "folder.png"], 1, "could not be written"),
    ],
)
def test_what_the_command_cannot_do_is_said_in_words(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "folder.png").mkdir(parents=True)
    (here / "file").write_text("mine")
    monkeypatch.chdir(here)
    result = cbirbench(*arguments)
    assert result.exit_code == code, result.output
    assert says in result.output and "What to do: " in result.output
    assert "Traceback" not in result.output
    assert sorted(path.name for path in here.rglob("*")) == ["file", "folder.png"]
