from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.errors import DataError, MissingError, UsageError
from cbirbench.interfaces import Options, option
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import (
    KINDS,
    Store,
    Usage,
    arrays_digest,
    as_json,
    cache_folder,
    key_of,
    read_arrays,
    slices_from_arrays,
    slices_to_arrays,
    write_arrays,
)

ARRAYS: dict[str, Any] = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "steps": np.array(7, dtype=np.int64),
    "half": np.array([0.5, -0.0], dtype=np.float16),
    "kept": np.array([True, False]),
    "nothing": np.zeros((0, 4), dtype=np.float64),
}
METADATA = {"history": [{"epoch": 1.0, "loss": -0.93}], "name": "Größe"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def same_arrays(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.shape == other[name].shape
        np.testing.assert_array_equal(array, other[name])


def test_the_folder_is_the_environments_or_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("CBIRBENCH_CACHE", "~/scans")
    assert cache_folder() == Path.home() / "scans"
    for absent in (
        lambda: monkeypatch.setenv("CBIRBENCH_CACHE", ""),
        lambda: monkeypatch.delenv("CBIRBENCH_CACHE"),
    ):
        absent()
        assert cache_folder() == Path(platformdirs.user_cache_dir("cbirbench"))


def test_a_round_trip_keeps_types_shapes_and_metadata(store: Store) -> None:
    store.write("weights", "abcd", ARRAYS, METADATA)
    entry = store.read("weights", "abcd")
    assert entry is not None
    same_arrays(entry[0], ARRAYS)
    assert entry[1] == METADATA


def test_arrays_out_of_c_order_come_back_equal(store: Store) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    given = {"turned": array.T, "every other": array[:, ::2], "fortran": np.asfortranarray(array)}
    store.write("slices", "abcd", given)
    entry = store.read("slices", "abcd")
    assert entry is not None
    same_arrays(entry[0], given)


def test_what_was_never_written_is_none(store: Store) -> None:
    assert store.read("similarities", "abcd") is None
    assert not store.has("similarities", "abcd")
    assert not store.folder.exists()
    store.write("similarities", "abcd", ARRAYS)
    assert store.has("similarities", "abcd")
    assert store.read("weights", "abcd") is None
    assert store.read("similarities", "abce") is None


def test_a_changed_byte_never_comes_back_as_the_entry(tmp_path: Path) -> None:
    path = tmp_path / "entry.safetensors"
    write_arrays(path, ARRAYS, METADATA)
    whole = path.read_bytes()
    detected = 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            arrays, metadata = read_arrays(path)
        except ValueError:
            detected += 1
        else:  # a byte of padding, or the case of an escape: what was written is what is read
            same_arrays(arrays, ARRAYS)
            assert metadata == METADATA
    assert detected > 0.9 * len(whole)


@pytest.mark.parametrize("part", ["data", "metadata", "digest"])
def test_a_damaged_entry_is_thrown_away_and_can_be_written_again(store: Store, part: str) -> None:
    store.write("weights", "abcd", ARRAYS, METADATA)
    path = store.path("weights", "abcd")
    content = bytearray(path.read_bytes())
    position = {
        "data": len(content) - 1,
        "metadata": content.index(b"0.93") + 2,
        "digest": content.index(b"sha256") + 14,
    }[part]
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"abcd\.safetensors"):
        read_arrays(path)
    assert store.read("weights", "abcd") is None
    assert store.discarded == [path]
    assert not store.has("weights", "abcd")
    store.write("weights", "abcd", ARRAYS, METADATA)
    assert store.read("weights", "abcd") is not None
    assert store.discarded == [path]


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -1])
def test_a_truncated_entry_is_thrown_away(store: Store, kept: int) -> None:
    store.write("weights", "abcd", ARRAYS, METADATA)
    path = store.path("weights", "abcd")
    path.write_bytes(path.read_bytes()[:kept])
    assert store.read("weights", "abcd") is None
    assert store.discarded == [path]
    assert not path.exists()


def test_somebody_elses_safetensors_is_no_entry(store: Store) -> None:
    from safetensors.numpy import save_file

    path = store.path("weights", "abcd")
    path.parent.mkdir(parents=True)
    save_file({"weight": np.zeros(3)}, path)
    assert store.read("weights", "abcd") is None


def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("weights", "old", ARRAYS)

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    for key in ("old", "new"):
        with pytest.raises(MissingError) as caught:
            store.write("weights", key, {"weight": np.zeros(3)})
        assert "No space left on device" in caught.value.problem
        assert f"{key}.safetensors" in caught.value.problem
        assert "Make room there" in caught.value.remedy and "CBIRBENCH_CACHE" in caught.value.remedy
    entry = store.read("weights", "old")
    assert entry is not None
    same_arrays(entry[0], ARRAYS)
    assert [file.name for file in store.folder.rglob("*") if file.is_file()] == ["old.safetensors"]


def test_an_interrupt_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, data: bytes) -> int:
        path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write("weights", "new", ARRAYS)
    assert [file for file in store.folder.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.read("weights", "abcd"),
        lambda store: store.has("weights", "abcd"),
        lambda store: store.workspace("abcd"),
        lambda store: store.clear(("weights",)),
    ],
    ids=["read", "has", "workspace", "clear"],
)
def test_a_folder_that_the_system_refuses_is_named(tmp_path: Path, use: Any) -> None:
    store = Store(tmp_path / ("n" * 300))  # longer than a name may be, even for root
    with pytest.raises(MissingError) as caught:
        use(store)
    assert f"The cache in {store.folder} cannot be used: File name too long" in caught.value.problem
    assert "CBIRBENCH_CACHE" in caught.value.remedy


def test_an_entry_without_permission_is_an_error_not_a_miss(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("weights", "abcd", ARRAYS)

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("cbirbench.store.read_arrays", refused)
    with pytest.raises(MissingError, match=r"Permission denied.*permissions"):
        store.read("weights", "abcd")
    assert store.path("weights", "abcd").is_file()


def test_the_cache_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    store = Store(tmp_path / "cache")
    assert store.read("weights", "abcd") is None
    with pytest.raises(MissingError, match=r"Not a directory.*CBIRBENCH_CACHE"):
        store.write("weights", "abcd", ARRAYS)
    with pytest.raises(MissingError, match="cannot be used"):
        store.workspace("abcd")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.randoms())
def test_a_key_does_not_depend_on_order(content: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value)
            random.shuffle(names)
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert key_of(shuffled(content)) == key_of(content)
    assert key_of({"all": content, "more": 1}) != key_of({"all": content, "more": 2})


@given(
    st.dictionaries(st.text(), json_values, max_size=4), st.dictionaries(st.text(), json_values, max_size=4)
)
def test_different_content_has_a_different_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    canonical = [json.dumps(content, sort_keys=True) for content in (one, other)]
    assert (key_of(one) == key_of(other)) == (canonical[0] == canonical[1])


def test_a_key_takes_numpys_numbers_and_paths_and_nothing_vague() -> None:
    assert key_of({"a": np.float32(0.5), "b": np.int64(3)}) == key_of({"a": 0.5, "b": 3})
    assert key_of({"a": Path("x/y")}) == key_of({"a": "x/y"})
    assert key_of({"a": (1, 2)}) == key_of({"a": [1, 2]})
    assert key_of({"a": 1}) != key_of({"a": "1"}) != key_of({"a": True})
    with pytest.raises(TypeError, match="set cannot be part of a cache key"):
        key_of({"a": {1}})


def test_the_digest_of_arrays_is_sensitive_to_all_of_them() -> None:
    zeros = np.zeros((2, 3), np.int16)
    variants = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros + np.int16(1)},
        {"a": zeros.astype(np.uint16)},
        {"a": zeros.T},
        {"a": zeros.reshape(6)},
        {"a": zeros, "b": zeros},
        {},
    ]
    assert len({arrays_digest(arrays) for arrays in variants}) == len(variants)
    assert arrays_digest({"a": zeros, "b": zeros + 1}) == arrays_digest({"b": zeros + 1, "a": zeros})


def some_slices() -> Slices:
    generator = np.random.default_rng(0)

    def plane(*shape: int) -> Any:
        return generator.integers(-1024, 3000, shape).astype(np.int16)

    return Slices(
        (
            CTSlice(plane(4, 4), np.ones((4, 4), np.uint8), "square", "p1", "s1", "v1", 3, 1, (0.7, 0.7)),
            CTSlice(plane(2, 5), np.eye(2, 5, dtype=np.uint8), "wide/α", "p1", "s1", "v1", 4, 1, (0.7, 0.8)),
            CTSlice(plane(5, 2), None, "tall without mask", "p2", "s2", "v2", 0, 0),
            CTSlice(
                *(
                    plane(2, 2),
                    np.diag((2, 3)).astype(np.uint8),
                    "several structures",
                    "p2",
                    "s2",
                    "v2",
                    1,
                    1,
                ),
                target_values=(3, 4),
            ),
        )
    )


def test_slices_come_back_whole(store: Store) -> None:
    slices = some_slices()
    store.write("slices", "abcd", *slices_to_arrays(slices))
    entry = store.read("slices", "abcd")
    assert entry is not None
    back = slices_from_arrays(*entry)
    assert back.fingerprint() == slices.fingerprint()
    for one, other in zip(slices, back, strict=True):
        np.testing.assert_array_equal(one.hu, other.hu)
        assert (one.mask is None) == (other.mask is None)
        assert one.study_id == other.study_id
        assert one.spacing_mm == other.spacing_mm
        assert one.target_values == other.target_values
        assert type(one.z_index) is type(other.z_index) is int


def test_slices_with_numpys_numbers_come_back_with_the_same_fingerprint(store: Store) -> None:
    hu = np.zeros((2, 2), np.int16)
    spacing: Any = (np.float32(0.5), np.float32(0.75))
    slices = Slices((CTSlice(hu, None, "a", "p", "s", "v", np.int64(3), np.uint8(1), spacing),))  # type: ignore[arg-type]
    store.write("slices", "abcd", *slices_to_arrays(slices))
    entry = store.read("slices", "abcd")
    assert entry is not None
    back = slices_from_arrays(*entry)
    assert back.fingerprint() == slices.fingerprint()
    assert back[0].spacing_mm == (0.5, 0.75)


def test_slices_of_before_there_were_target_values_are_read() -> None:
    arrays, metadata = slices_to_arrays(some_slices())
    for row in metadata["slices"]:
        del row["target_values"]
    assert [item.target_values for item in slices_from_arrays(arrays, metadata)] == [()] * 4


def test_without_pixels_masks_and_rows_remain(store: Store) -> None:
    arrays, metadata = slices_to_arrays(some_slices(), pixels=False)
    assert sorted(arrays) == ["mask/several structures", "mask/square", "mask/wide/α"]
    assert [row["slice_id"] for row in metadata["slices"]] == some_slices().ids
    with pytest.raises(DataError, match=r"HU of slice 'square' were not kept \(--no-pixels\)"):
        slices_from_arrays(arrays, metadata)


def test_no_slices_make_a_round_trip_too() -> None:
    assert len(slices_from_arrays(*slices_to_arrays(Slices(())))) == 0


def test_usage_and_clearing(store: Store) -> None:
    assert store.usage() == [Usage(kind, 0, 0) for kind in (*KINDS, "workspaces")]
    store.write("weights", "aa1", ARRAYS)
    store.write("weights", "bb1", ARRAYS)
    store.write("similarities", "aa1", ARRAYS)
    (store.workspace("aa1") / "last.ckpt").write_bytes(b"12345")
    sizes = {usage.kind: usage for usage in store.usage()}
    entry = store.path("similarities", "aa1").stat().st_size
    assert sizes["weights"] == Usage("weights", 2, 2 * entry)
    assert sizes["similarities"] == Usage("similarities", 1, entry)
    assert sizes["workspaces"] == Usage("workspaces", 1, 5)
    assert sizes["slices"] == Usage("slices", 0, 0)

    assert store.clear(("weights",)) == [Usage("weights", 2, 2 * entry)]
    assert not store.has("weights", "aa1")
    assert store.has("similarities", "aa1")
    with pytest.raises(UsageError, match=r"no 'map'\. It holds: slices, weights"):
        store.clear(("similarities", "map"))
    assert store.has("similarities", "aa1")
    assert sum(usage.entries for usage in store.clear()) == 2
    assert all(usage.entries == 0 for usage in store.usage())


def test_clearing_takes_nothing_but_entries(store: Store) -> None:
    store.folder.mkdir()
    (store.folder / "thesis.tex").write_text("years of work")
    store.write("similarities", "aa1", ARRAYS)
    store.clear()
    assert [path.name for path in store.folder.iterdir()] == ["thesis.tex"]


def test_a_workspace_is_kept_until_forgotten(store: Store) -> None:
    folder = store.workspace("abcd")
    (folder / "last.ckpt").write_text("")
    assert store.workspace("abcd") == folder
    assert [file.name for file in folder.iterdir()] == ["last.ckpt"]
    store.forget_workspace("abcd")
    assert not folder.exists()
    store.forget_workspace("abcd")


class SomeOptions(Options):
    window: tuple[float, float] = option((-200.0, 300.0), description="Window.")
    weights: Path | None = option(None, description="Weights.")


def test_as_json() -> None:
    assert as_json(SomeOptions(weights=Path("a/b"))) == {"window": [-200.0, 300.0], "weights": "a/b"}
    assert as_json(Usage("similarities", 1, 2)) == {"kind": "similarities", "entries": 1, "size_bytes": 2}
    assert as_json({"a": np.float32(0.5), 3: (np.int64(1), float("nan"), float("inf"), None, True)}) == {
        "a": 0.5,
        "3": [1, None, None, None, True],
    }
    assert as_json({"b", "a", "c"}) == ["a", "b", "c"]
    assert as_json({"options": [SomeOptions()]}) == {
        "options": [{"window": [-200.0, 300.0], "weights": None}]
    }
    json.dumps(as_json({"path": Path("x"), "number": np.float64("nan")}), allow_nan=False)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_arrays(
            tmp_path / name, {"x": np.arange(3), "y": np.ones(2)}, {"run": 0, "history": [{"loss": 1.5}]}
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_cache_is_called_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MissingError, match=r"cache.*No space left.*CBIRBENCH_CACHE"):
        Store(tmp_path).write("similarities", "0" * 64, {"map": np.zeros(2)})


def test_one_training_is_not_made_twice_at_once(tmp_path: Path) -> None:
    """A second process waits until the first one is done, or dead."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom cbirbench.store import Store\n"
        "with Store(Path(sys.argv[1])).training_alone('key', lambda: print('waits')):\n"
        "    print('alone', flush=True)\n    time.sleep(60)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "alone\n"
        told: list[float] = []

        def waits() -> None:
            told.append(time.monotonic())
            first.kill()  # as the system does, without giving it time to tidy up

        with Store(tmp_path).training_alone(
            "other", lambda: pytest.fail("another training stands in the way")
        ):
            pass
        with Store(tmp_path).training_alone("key", waits):
            assert len(told) == 1
            assert first.wait() != 0
    finally:
        first.kill()
    with Store(tmp_path).training_alone("key", lambda: pytest.fail("the lock was left behind")):
        pass
