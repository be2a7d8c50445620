"""Where the Medical Segmentation Decathlon's CT tasks are to be had, and where they lie once they are here.

Addresses and checksums are those that MONAI publishes with its ``DecathlonDataset`` (monai/apps/datasets.py,
Apache-2.0). MD5 is what the publisher gives: it tells a damaged or incomplete download from a whole one. That
nobody put another file in its place rests on HTTPS, as MD5 withstands no forger.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cbirbench.errors import UsageError
from cbirbench.registry import nearest

DATA_VARIABLE = "CBIRBENCH_DATA"
"""The environment variable that names the data folder where the options do not."""

LICENCE = "CC BY-SA 4.0"
LICENCE_TEXT = "https://creativecommons.org/licenses/by-sa/4.0/"
CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022), "
    "doi:10.1038/s41467-022-30695-9"
)


@dataclass(frozen=True)
class Archive:
    """A task of the Decathlon as its publisher packs it.

    Attributes:
        benchmark: The benchmark that reads it.
        task: The task's name: of the folder in the archive, and of the archive without ``.tar``.
        md5: The archive's MD5, in hexadecimal.
        aliases: Other names it is asked for by.
    """

    benchmark: str
    task: str
    md5: str
    aliases: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where MONAI's mirror has it."""
        return f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{self.task}.tar"

    @property
    def names(self) -> tuple[str, ...]:
        """All that it may be called, the benchmark's name first."""
        return (self.benchmark, *self.aliases, self.task)


ARCHIVES = (
    Archive("decathlon", "Task03_Liver", "a90ec6c4aa7f6a3d087205e23d4e6397", ("liver",)),
    Archive("lung", "Task06_Lung", "8afd997733c7fc0432f71255ba4e52dc"),
    Archive("pancreas", "Task07_Pancreas", "4f7080cfca169fa8066d17ce6eb061e4"),
    Archive("hepatic-vessel", "Task08_HepaticVessel", "641d79e80ec66453921d997fbf12a29c"),
    Archive("spleen", "Task09_Spleen", "410d4a301da4e5b2f6f86ec3ddba524e"),
    Archive("colon", "Task10_Colon", "bad7a188931dc2f6acf72b08eb6202d0"),
)
"""The Decathlon's CT tasks; its other four are MR."""


def archive_called(name: str) -> Archive:
    """The archive of a benchmark, by the benchmark's name or the task's.

    Raises:
        UsageError: There is none of that name.
    """
    for archive in ARCHIVES:
        if name in archive.names:
            return archive
    known = [known for archive in ARCHIVES for known in archive.names]
    listing = ", ".join(f"{archive.benchmark} ({', '.join(archive.names[1:])})" for archive in ARCHIVES)
    raise UsageError(
        f"There is nothing to fetch for {name!r}.",
        f"{nearest(name, known)}To be had: {listing}. What the other benchmarks need: cbirbench data list.",
    )


def default_data_folder() -> Path:
    """Where `data fetch` puts data and readers look for it if neither an option nor $CBIRBENCH_DATA says."""
    import platformdirs

    return Path(platformdirs.user_data_dir("cbirbench")) / "data"


def data_folder(given: Path | None = None) -> Path:
    """The data folder: the one given, else $CBIRBENCH_DATA, else the default. It need not be there."""
    named = given or os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else default_data_folder()


def is_task_folder(folder: Path) -> bool:
    """Whether a folder is itself a task's, rather than one that holds tasks."""
    return (folder / "imagesTr").is_dir() or (folder / "labelsTr").is_dir()
