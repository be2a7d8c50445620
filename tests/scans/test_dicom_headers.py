from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from cbirbench.errors import CbirbenchError, DataError
from cbirbench.scans.dicom_files import find_series
from cbirbench.scans.dicom_headers import identifier_of, text_of, word_of
from cbirbench.scans.dicom_segmentation import DicomSegmentation
from cbirbench.scans.volumes import open_mask, open_volume

PATH = Path("x.dcm")
SECRETS = ("SECRET", "19010203")


def holding(label: object) -> Dataset:
    item = Dataset()
    item.SegmentLabel = label
    return item


def test_text_that_may_be_shown() -> None:
    assert text_of(PATH, holding(" Lebertumor, größer 0 "), "SegmentLabel") == "Lebertumor, größer 0"
    assert text_of(PATH, Dataset(), "SegmentLabel") == ""


@pytest.mark.parametrize("label", ["liver\x10\0\x10\0PN\x04\0NAME", "DOE^JANE", "x" * 101, ["liver", "b\0c"]])
def test_text_that_may_not(label: object) -> None:
    with pytest.raises(DataError, match=r"x\.dcm has a SegmentLabel that cannot be understood") as raised:
        text_of(PATH, holding(label), "SegmentLabel")
    assert "JANE" not in str(raised.value)
    assert identifier_of(PATH, holding(label), "SegmentLabel")


@pytest.mark.parametrize(("value", "word"), [("CT ", "CT"), ("ct", "CT"), ("HU_MOD", "HU_MOD"), ("", "")])
def test_words(value: str, word: str) -> None:
    item = Dataset()
    item.Modality = value
    assert word_of(PATH, item, "Modality") == word


@pytest.mark.parametrize("value", ["C-T", "A" * 17, "CT\nMR", "Müller", ["CT", "MR"]])
def test_no_words(value: object) -> None:
    item = Dataset()
    item.Modality = value
    with pytest.raises(DataError, match="Modality that cannot be understood"):
        word_of(PATH, item, "Modality")


def short_elements(path: Path) -> dict[str, int]:
    """Keywords of the elements with a length of two bytes, and where that length is, the last of each."""
    header = dcmread(path)
    return {
        element.keyword: element.file_tell - 2
        for element in (*header.file_meta, *header.iterall())
        if element.VR in ("CS", "DS", "IS", "LO", "PN", "SH", "UI", "US", "DA", "TM") and element.file_tell
    }


def said(path: Path, image: Path) -> str:
    """All that is said and kept of a file, by itself and as the mask of a scan; decoders' words too."""
    told: list[object] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        damaged: dict[Path, DataError] = {}
        told += [find_series(path.parent, damaged=damaged), *damaged.values()]
        try:
            volume = open_volume(path)
            told.append(volume.doubts)
            volume.read_hu(range(volume.grid.slice_count))
        except CbirbenchError as error:
            told.append(error)
        try:
            scan = open_volume(image)
            mask = open_mask(path, scan)
            told += [mask.doubts, mask.names if isinstance(mask, DicomSegmentation) else ""]
            mask.read_mask(scan)
        except CbirbenchError as error:
            told.append(error)
    return " ".join(map(str, [*told, *(each.message for each in caught)]))


@pytest.mark.parametrize("kind", ["scan", "mask"])
def test_an_element_of_a_wrong_length_gives_nothing_away(dicom, kind: str, tmp_path: Path) -> None:
    """It swallows those after it: the patient's name, identifier and date of birth."""
    hu = dicom.scan(2)
    sets = dicom.datasets(hu)
    for ds in sets:
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.RequestingPhysician = ds.ContentCreatorName = (
            "SECRET^NAME"  # behind pixels' and segments' elements
        )
    image = dicom.write(tmp_path / "ct", sets)[0].parent
    path = tmp_path / "one" / "x.dcm"
    path.parent.mkdir()
    if kind == "scan":
        sets[0].save_as(path, enforce_file_format=True)
    else:
        dicom.segmentation(path, sets, (hu > 0).astype("u1"))
        made = dcmread(path)
        made.ContentCreatorName = "SECRET^NAME"
        made.SegmentSequence[0].SegmentDescription = "SECRET^NAME"
        made.save_as(path)
    whole = path.read_bytes()
    assert not any(secret in said(path, image) for secret in SECRETS)
    elements = short_elements(path)
    assert {"Modality", "PatientName"} <= elements.keys()
    refused = 0
    for keyword, place in elements.items():
        (length,) = struct.unpack_from("<H", whole, place)
        for longer in (length + 30, 120, 400):
            path.write_bytes(whole[:place] + struct.pack("<H", longer) + whole[place + 2 :])
            told = said(path, image)
            refused += "cannot be understood" in told
            assert not any(secret in told for secret in SECRETS), (keyword, longer, told)
    assert refused


def test_the_name_of_an_unknown_transfer_syntax_is_not_shown(dicom, tmp_path: Path) -> None:
    (ds,) = dicom.datasets(dicom.scan(1))
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    whole = (tmp_path / "x.dcm").read_bytes()
    known = b"1.2.840.10008.1.2.1\0"
    for other, shown in (
        (b"1.2.840.99999.1.2.1\0", "1.2.840.99999.1.2.1"),
        (b"SECRET^NAME.10008.1\0", "unknown"),
    ):
        assert len(other) == len(known)
        (tmp_path / "x.dcm").write_bytes(whole.replace(known, other))
        with pytest.raises(DataError, match=f"compressed as .*{shown}") as raised:
            open_volume(tmp_path / "x.dcm")
        assert "SECRET" not in str(raised.value)


def test_segments_are_named(dicom, tmp_path: Path) -> None:
    hu = dicom.scan(2)
    image = dicom.write(tmp_path / "ct", dicom.datasets(hu))[0].parent
    path = dicom.segmentation(tmp_path / "seg.dcm", dicom.datasets(hu), (hu > 0).astype(np.uint8))
    mask = open_mask(path, open_volume(image))
    assert isinstance(mask, DicomSegmentation)
    assert mask.names == {1: "organ 1"}
