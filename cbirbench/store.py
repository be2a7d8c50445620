"""The cache: arrays under a key of everything that shaped them.

An entry is one safetensors file whose header holds a SHA-256 of its arrays; it is checked whenever it is
read, and an entry that fails the check is thrown away and made again. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.atomic import replacing
from cbirbench.errors import DataError, MissingError, UsageError
from cbirbench.slices import CTSlice, Slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

CACHE_REMEDY = (
    "Make room there (`cbirbench cache --clear` empties it), or set the environment variable CBIRBENCH_CACHE "
    "to a folder on a disk that has room and can be written to; then run the same command again."
)

KINDS = ("slices", "weights", "embeddings", "similarities", "scores")
"""What is cached: slices read from scans, trained weights, embeddings, RELAX's similarities, and scores."""


def cache_folder() -> Path:
    """The folder that ``CBIRBENCH_CACHE`` names, else the platform's cache folder."""
    import platformdirs

    given = os.environ.get("CBIRBENCH_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("cbirbench"))


def key_of(shaped_by: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON: equal for equal content, whatever the order of keys."""
    text = json.dumps(shaped_by, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a cache key: {value!r}")


def arrays_digest(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, Any] | None = None) -> None:
    """Write arrays and JSON metadata as one checked safetensors file."""
    from safetensors.numpy import save

    # Not ascontiguousarray: it would give a number of shape () the shape (1,).
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(metadata or {})
    # One entry, since safetensors writes several in an order that changes from run to run.
    header = {"cbirbench": json.dumps({"metadata": text, "sha256": _digest(contiguous, text)})}
    # Written by Python, not by safetensors, so that a full disk is the system's own error.
    with replacing(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata=header))


def _digest(arrays: Arrays, metadata: str) -> str:
    """SHA-256 over arrays and metadata."""
    return hashlib.sha256(f"{arrays_digest(arrays)} {metadata}".encode()).hexdigest()


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file of `write_arrays` and check it.

    Returns:
        The arrays and the metadata.

    Raises:
        ValueError: The file is truncated or was changed.
        OSError: It cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    try:
        content = json.loads(header.get("cbirbench", ""))
        text, digest = content["metadata"], content["sha256"]
        whole = digest == _digest(arrays, text)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise ValueError(f"{path} does not hold what was written to it")
    return arrays, json.loads(text)


def slices_to_arrays(slices: Slices, *, pixels: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Slices as arrays and JSON metadata; without `pixels` the HU are left out."""
    arrays: dict[str, Any] = {}
    rows = []
    for item in slices:
        if pixels:
            arrays[f"hu/{item.slice_id}"] = item.hu
        if item.mask is not None:
            arrays[f"mask/{item.slice_id}"] = item.mask
        rows.append(
            {
                "slice_id": item.slice_id,
                "patient_id": item.patient_id,
                "study_id": item.study_id,
                "volume_id": item.volume_id,
                "z_index": int(item.z_index),
                "label": int(item.label),
                "spacing_mm": [float(spacing) for spacing in item.spacing_mm],
                "target_values": [int(value) for value in item.target_values],
                "volume_slices": None if item.volume_slices is None else int(item.volume_slices),
            }
        )
    return arrays, {"slices": rows}


def slices_from_arrays(arrays: Arrays, metadata: Mapping[str, Any]) -> Slices:
    """The inverse of `slices_to_arrays`.

    Raises:
        DataError: The HU were left out.
    """
    items = []
    for row in metadata["slices"]:
        spacing = (float(row["spacing_mm"][0]), float(row["spacing_mm"][1]))
        name = row["slice_id"]
        if f"hu/{name}" not in arrays:
            raise DataError(
                f"The HU of slice {name!r} were not kept (--no-pixels).",
                "Run the same command without --no-pixels, into another folder.",
            )
        items.append(
            CTSlice(
                hu=arrays[f"hu/{name}"],
                mask=arrays.get(f"mask/{name}"),
                **{**row, "spacing_mm": spacing, "target_values": tuple(row.get("target_values", ()))},
            )
        )
    return Slices(tuple(items))


@dataclass(frozen=True)
class Usage:
    """How much of the cache a kind of entry takes."""

    kind: str
    entries: int
    size_bytes: int


class Store:
    """The cache in one folder.

    Args:
        folder: Where it is; made when something is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.discarded: list[Path] = []
        """Entries that failed their check and were thrown away."""

    def path(self, kind: str, key: str) -> Path:
        """Where an entry is, or would be."""
        return self.folder / kind / key[:2] / f"{key}.safetensors"

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an entry; it is checked only when read."""
        with self._reachable():
            return self.path(kind, key).is_file()

    def read(self, kind: str, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The entry's arrays and metadata, or None where there is none or it failed its check.

        Raises:
            MissingError: The folder cannot be read.
        """
        path = self.path(kind, key)
        with self._reachable():
            if not path.is_file():
                return None
            try:
                return read_arrays(path)
            except ValueError:
                path.unlink(missing_ok=True)
                self.discarded.append(path)
                return None

    def write(self, kind: str, key: str, arrays: Arrays, metadata: Mapping[str, Any] | None = None) -> None:
        """Write an entry, whole or not at all."""
        try:
            write_arrays(self.path(kind, key), arrays, metadata)
        except MissingError as error:
            raise MissingError(f"The cache cannot take an entry: {error.problem}", CACHE_REMEDY) from error

    def workspace(self, key: str) -> Path:
        """A folder for the files of a training that is under way."""
        folder = self.folder / "workspaces" / key
        with self._reachable():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def training_alone(self, key: str, waits: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from the same training; it ends with the process, however that ends.

        Args:
            key: The training's.
            waits: Called where another process is at it; its end is then waited for.
        """
        from filelock import FileLock, Timeout

        with self._reachable():
            (self.folder / "workspaces").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "workspaces" / f"{key}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waits()
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def forget_workspace(self, key: str) -> None:
        """Delete a training's folder, once its weights are kept."""
        import shutil

        shutil.rmtree(self.folder / "workspaces" / key, ignore_errors=True)
        (self.folder / "workspaces" / f"{key}.lock").unlink(missing_ok=True)

    def usage(self) -> list[Usage]:
        """Entries and bytes of every kind."""
        return [self._usage(kind) for kind in (*KINDS, "workspaces")]

    def _usage(self, kind: str) -> Usage:
        with self._reachable():
            sizes = [file.stat().st_size for file in (self.folder / kind).rglob("*") if file.is_file()]
        return Usage(kind, len(sizes), sum(sizes))

    def clear(self, kinds: tuple[str, ...] = ()) -> list[Usage]:
        """Delete all entries, or those of the given kinds; says what was deleted.

        Raises:
            UsageError: There is no such kind.
        """
        import shutil

        known = (*KINDS, "workspaces")
        for kind in kinds:
            if kind not in known:
                raise UsageError(f"The cache holds no {kind!r}.", f"It holds: {', '.join(known)}.")
        deleted = []
        for kind in kinds or known:
            deleted.append(self._usage(kind))
            with self._reachable():
                if (self.folder / kind).is_dir():
                    shutil.rmtree(self.folder / kind)
        return deleted

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Report a folder that the system does not let us use."""
        try:
            yield
        except OSError as error:
            raise MissingError(
                f"The cache in {self.folder} cannot be used: {error.strerror or error}.",
                "Check the folder's permissions and its disk, or name another one in CBIRBENCH_CACHE.",
            ) from error


def as_json(value: Any) -> Any:
    """Options, dataclasses and NumPy numbers as what JSON can hold; NaN becomes null."""
    if hasattr(value, "model_dump"):
        return as_json(value.model_dump(mode="json"))
    if hasattr(value, "__dataclass_fields__"):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)  # a set's own order differs from process to process
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
