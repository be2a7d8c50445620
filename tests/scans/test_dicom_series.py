from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    UID,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.dicom_series import DicomSeries, open_series
from cbirbench.scans.volumes import open_volume

Change = Callable[[list[Dataset]], Any]


def read(folder: Path) -> np.ndarray:
    """All slices of a series of which nothing is doubtful."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        volume = open_volume(folder)
    return volume.read_hu(range(volume.grid.slice_count))


def refused(path: Path, match: str, secret: str = "SECRET") -> None:
    with pytest.raises(DataError, match=match) as raised:
        volume = open_volume(path)
        volume.read_hu([0])
    assert secret not in str(raised.value)
    assert raised.value.remedy


def test_slices_lie_in_order_of_position(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    paths = dicom.write(tmp_path / "ct", dicom.datasets(hu, spacing=(0.7, 0.9)))
    assert [path.name for path in paths] != sorted(path.name for path in paths)
    with pytest.warns(DataWarning, match="rows 0.7 mm and columns 0.9 mm"):
        volume = open_volume(tmp_path / "ct")
    assert isinstance(volume, DicomSeries)
    assert volume.stated
    assert volume.grid.shape == (10, 8, 6)
    # Worked by hand: columns step .9 mm to the left, rows .7 mm to the back, slices 2.5 mm up.
    np.testing.assert_allclose(
        volume.grid.affine, [[-0.9, 0, 0, 120], [0, -0.7, 0, 80], [0, 0, 2.5, -300], [0, 0, 0, 1]]
    )
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu)
    np.testing.assert_array_equal(volume.read_hu([1, 4]), hu[[1, 4]])
    assert volume.read_hu([3]).dtype == np.int16


def test_only_the_wanted_files_are_decoded(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    paths = dicom.write(tmp_path, dicom.datasets(hu))
    volume = open_volume(tmp_path)
    paths[5].unlink()
    np.testing.assert_array_equal(volume.read_hu([2]), hu[[2]])
    with pytest.raises(DataError, match="does not exist"):
        volume.read_hu([2, 5])


@pytest.mark.parametrize("signed", [False, True])
def test_simpleitk_reads_the_same(dicom, signed: bool, tmp_path: Path) -> None:
    directions = (0.96, 0.28, 0, -0.28, 0.96, 0)  # turned about the long axis
    sets = dicom.datasets(dicom.scan(), directions=directions, origin=(-33, 21, 7), signed=signed)
    dicom.write(tmp_path, sets)
    volume = open_volume(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.read_hu(range(6)), sitk.GetArrayFromImage(image))
    for index in ((0, 0, 0), (9, 7, 5), (3, 1, 2)):
        ours = volume.grid.affine @ (*index, 1)
        np.testing.assert_allclose(
            ours[:3] * (-1, -1, 1), image.TransformIndexToPhysicalPoint(index), atol=1e-6
        )


@settings(max_examples=40, deadline=None)
@given(angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), shear=st.tuples(*[st.floats(-0.4, 0.4)] * 2))
def test_every_voxel_lies_where_its_header_says(
    dicom,
    angles: tuple[float, float, float],
    shear: tuple[float, float],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    turn = np.eye(3)
    for (first, second), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        one = np.eye(3)
        one[[first, second], [first, second]] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    row, column, normal = turn
    step = 2.5 * normal + shear[0] * row + shear[1] * column
    hu = dicom.scan(3, 4, 5)
    sets = dicom.datasets(hu, directions=[*row, *column], step=step, spacing=(0.7, 0.9))
    folder = tmp_path_factory.mktemp("turned")
    dicom.write(folder, sets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        volume = open_volume(folder)
    found = volume.read_hu(range(volume.grid.slice_count))
    at = {}
    for ds, plane in zip(sets, hu, strict=True):
        for r, c in np.ndindex(plane.shape):
            x, y, z = np.array(ds.ImagePositionPatient, float) + 0.9 * c * row + 0.7 * r * column
            at[int(plane[r, c])] = (-x, -y, z)
    for index in np.ndindex(found.shape):
        world = volume.grid.view_affine @ (*index, 1)
        np.testing.assert_allclose(world[:3], at[int(found[index])], atol=1e-3)


def test_each_slice_has_its_own_slope_and_intercept(dicom, tmp_path: Path) -> None:
    hu = dicom.scan() // 4 * 4
    sets = [
        dicom.datasets(hu, slope=slope, intercept=intercept)[k]
        for k, (slope, intercept) in enumerate(
            [(1, -1024), (2, -1000), (0.5, -1024), (4, -2000), (1, -1000), (2, 0)]
        )
    ]
    signed = dicom.datasets(hu, slope=2, intercept=0, signed=True)[5]
    dicom.write(tmp_path, [*sets[:5], signed])
    np.testing.assert_array_equal(read(tmp_path), hu)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_pixels(dicom, syntax: UID, signed: bool, tmp_path: Path) -> None:
    hu = dicom.scan(3, 40, 50) * 0 + np.arange(-1000, 1000).reshape(40, 50).astype(np.int16)
    sets = dicom.datasets(hu, signed=signed, intercept=0 if signed else -1024)
    for ds in sets:
        ds.compress(syntax, generate_instance_uid=False)
    dicom.write(tmp_path, sets)
    np.testing.assert_array_equal(read(tmp_path), hu)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_those_stored_do_not_count(dicom, signed: bool, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu, signed=signed, intercept=0 if signed else -1024)
    for ds in sets:
        stored = np.frombuffer(ds.PixelData, "<u2")
        ds.PixelData = ((stored & 0x0FFF) | 0x5000).astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit = 12, 11
    dicom.write(tmp_path, sets)
    np.testing.assert_array_equal(read(tmp_path), hu)


def test_big_endian_and_files_without_preamble(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu)
    for ds in sets[:3]:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds.set_original_encoding(False, False)
    dicom.write(tmp_path, sets[:3])
    for k, ds in enumerate(sets[3:]):
        del ds.file_meta
        ds.save_as(tmp_path / f"bare{k}", implicit_vr=k > 0, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare0").read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(read(tmp_path), hu)


def test_a_tilted_gantry_shears_the_grid(dicom, tmp_path: Path) -> None:
    hu, angle = dicom.scan(), np.radians(20)
    # Slices lean by 20 degrees about the left-right axis; the table still moves along the body.
    directions = (1, 0, 0, 0, np.cos(angle), np.sin(angle))
    dicom.write(tmp_path, dicom.datasets(hu, directions=directions, step=(0, 0, 2.5)))
    with pytest.warns(DataWarning, match=r"gantry tilted by 20\.0 degrees"):
        volume = open_volume(tmp_path)
    np.testing.assert_allclose(volume.grid.affine[:3, 2], (0, 0, 2.5))
    assert volume.grid.voxel_mm == pytest.approx((2.5 * np.cos(angle), 0.8, 0.8))
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu)


def test_coronal_slices_are_turned_into_axial_ones(dicom, tmp_path: Path) -> None:
    view = dicom.scan(8, 6, 10)  # axial: slices up, rows back, columns left
    # Coronal planes from front to back: rows run down, columns left.
    coronal = np.ascontiguousarray(view[::-1].transpose(1, 0, 2))
    dicom.write(tmp_path, dicom.datasets(coronal, directions=(1, 0, 0, 0, 0, -1), step=(0, 2.5, 0)))
    with pytest.warns(DataWarning, match=r"rows 2\.5 mm and columns 0\.8 mm apart"):
        volume = open_volume(tmp_path)
    assert volume.grid.view_shape == view.shape
    np.testing.assert_array_equal(volume.read_hu(range(8)), view)
    np.testing.assert_array_equal(volume.read_hu([1, 6]), view[[1, 6]])


def test_feet_first_slices_stored_from_the_left(dicom, tmp_path: Path) -> None:
    view = dicom.scan()
    stored = view[:, ::-1, ::-1]  # rows run to the front, columns to the right: a patient on the belly
    dicom.write(tmp_path, dicom.datasets(stored, directions=(-1, 0, 0, 0, -1, 0)))
    np.testing.assert_array_equal(read(tmp_path), view)


def test_one_slice_is_a_volume_by_its_file_or_folder(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    path = dicom.write(tmp_path / "ct", dicom.datasets(hu)[2:3])[0]
    for given_path in (path, tmp_path / "ct"):
        volume = open_volume(given_path)
        assert volume.grid.shape == (10, 8, 1)
        assert volume.grid.voxel_mm == pytest.approx((2.5, 0.8, 0.8))
        np.testing.assert_array_equal(volume.read_hu([0]), hu[2:3])


def test_copies_of_a_slice_are_left_out_with_a_warning(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    paths = dicom.write(tmp_path, dicom.datasets(hu))
    (tmp_path / "again.dcm").write_bytes(paths[2].read_bytes())
    with pytest.warns(DataWarning, match="copies of other files are left out, 1 file, "):
        volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu)


def test_two_slices_at_one_position_are_refused_by_file(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    dicom.write(tmp_path, sets)
    other = sets[2]
    other.SOPInstanceUID = "1.2.3.4"
    other.save_as(tmp_path / "phase2.dcm")
    refused(tmp_path, r"2 slices at positions.*phase2\.dcm")


def test_missing_slices_are_counted_and_placed(dicom, tmp_path: Path) -> None:
    hu = dicom.scan(9)
    sets = dicom.datasets(hu)
    paths = dicom.write(tmp_path, sets)
    for k in (3, 4, 7):
        paths[k].unlink()
    with pytest.warns(DataWarning) as raised:
        volume = open_volume(tmp_path)
    (text,) = [str(item.message) for item in raised]
    assert "lacks 3 slices in 2 gaps" in text
    assert f"between {paths[2].name} and {paths[5].name}, is 7.5 mm wide where others are 2.5 mm" in text
    kept = [0, 1, 2, 5, 6, 8]
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu[kept])


def test_uneven_slices_are_warned_of(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    sets[5].ImagePositionPatient[2] += 1
    dicom.write(tmp_path, sets)
    with pytest.warns(DataWarning, match=r"2\.5 to 3\.5 mm apart"):
        open_volume(tmp_path)


def test_rounded_positions_are_even(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    for k, ds in enumerate(sets):
        ds.ImagePositionPatient[2] += (-1) ** k * 0.02
    dicom.write(tmp_path, sets)
    read(tmp_path)


def _moved(axis: int, by: float) -> Change:
    def change(sets: list[Dataset]) -> None:
        sets[2].ImagePositionPatient[axis] += by

    return change


def _set(**elements: Any) -> Change:
    """Set elements of the third slice."""

    def change(sets: list[Dataset]) -> None:
        for keyword, value in elements.items():
            setattr(sets[2], keyword, value)

    return change


def _smaller(sets: list[Dataset]) -> None:
    sets[2].Rows, sets[2].PixelData = 7, sets[2].PixelData[:140]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_smaller, "mixes slices of different size"),
        (_set(PixelSpacing=[0.8, 0.81]), "mixes slices of different pixel spacing"),
        (_set(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "mixes slices of different orientation"),
        (_set(FrameOfReferenceUID="1.2.3.10"), "mixes slices of different frame of reference"),
        (_moved(0, 5), "do not lie in a row.*is 5 mm off"),
        (_set(PixelSpacing=[0.7, 0]), "impossible geometry"),
        (_set(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "impossible geometry"),
        (_set(RescaleSlope=0), "impossible geometry or scaling"),
        (_set(RescaleType="HU_MOD"), "values of type HU_MOD"),
        (_set(ImagePositionPatient=[1, 2]), "ImagePositionPatient that is not 3 finite numbers"),
        (_set(PixelSpacing=None), "has no PixelSpacing"),
    ],
)
def test_what_makes_no_volume_is_refused(dicom, change: Change, match: str, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    change(sets)
    paths = dicom.write(tmp_path, sets)
    refused(tmp_path, match)
    if "mixes" in match or "row" in match:
        with pytest.raises(DataError, match=paths[2].name):
            open_volume(tmp_path)


@pytest.mark.parametrize(
    "keyword",
    [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "Rows",
        "RescaleSlope",
        "RescaleIntercept",
    ],
)
def test_missing_elements_are_named_with_the_file(dicom, keyword: str, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    del sets[4][keyword]
    paths = dicom.write(tmp_path, sets)
    refused(tmp_path, rf"{paths[4].name} has no {keyword}")


def test_a_number_that_is_none(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    path = dicom.write(tmp_path, sets)[0]
    content = path.read_bytes()
    assert content.count(b"0.8\\0.8 ") == 1
    path.write_bytes(content.replace(b"0.8\\0.8 ", b"0.8\\SECR"))
    refused(tmp_path, "PixelSpacing that is not 2 finite numbers", secret="SECR")


def test_other_kinds_of_images_are_refused_by_name(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    for ds in sets:
        ds.Modality = "MR"
    paths = dicom.write(tmp_path / "mr", sets)
    refused(tmp_path / "mr", r"no DICOM series of CT slices: series-[0-9a-f]{10} \(MR, 6 files\)")
    refused(paths[0], "modality MR, not CT")


def test_localizers_and_screens_are_left_out(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu)
    scout, screen, colour = dicom.datasets(hu[:3])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    screen.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    colour.SamplesPerPixel, colour.PhotometricInterpretation, colour.PlanarConfiguration = 3, "RGB", 0
    colour.BitsAllocated = colour.BitsStored = 8
    paths = dicom.write(tmp_path / "only", [scout, screen, colour])
    refused(tmp_path / "only", r"no DICOM series of CT slices: series-\w+ \(CT, 3 files\)")
    for path in paths:
        refused(path, "no CT slice, only localizers or pictures of a screen")
    dicom.write(tmp_path / "with", sets)
    scout.save_as(tmp_path / "with" / "scout.dcm")
    with pytest.warns(DataWarning, match=r"localizers.*left out, 1 file, scout\.dcm"):
        volume = open_volume(tmp_path / "with")
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu)


@pytest.mark.parametrize("signed", [True, False])
def test_padding_becomes_air(dicom, signed: bool, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu, signed=signed)
    value = -2000 if signed else 63536  # the same bits
    for ds in sets:
        stored = np.frombuffer(ds.PixelData, "<i2" if signed else "<u2").copy()
        stored[:7] = value
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "SS" if signed else "US", value)
    dicom.write(tmp_path, sets)
    expected = hu.copy()
    expected[:, 0, :7] = -1024
    np.testing.assert_array_equal(read(tmp_path), expected)


def test_padding_of_the_other_signedness_and_as_a_range(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    sets = dicom.datasets(hu, signed=True)
    for ds in sets:
        stored = np.frombuffer(ds.PixelData, "<i2").copy()
        stored[:4] = -2000, -1999, -1990, -1980
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "US", 63536)
        ds.add_new("PixelPaddingRangeLimit", "US", 63546)
    dicom.write(tmp_path, sets)
    found = read(tmp_path)
    assert found[0, 0, :4].tolist() == [-1024, -1024, -1024, -1980 - 1024]
    np.testing.assert_array_equal(found[:, 1:], hu[:, 1:])


def test_padding_among_tissue_is_warned_of(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(dicom.scan())
    for ds in sets:
        ds.add_new("PixelPaddingValue", "US", 1074)
    dicom.write(tmp_path, sets)
    with pytest.warns(DataWarning, match="50 to 50 HU as padding"):
        open_volume(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "match"),
    [
        (JPEGLosslessSV1, r"JPEG Lossless.*no decoder is installed.*python-gdcm"),
        (MPEG2MPML, r"MPEG2.*no decoder is installed\. Decompress"),
    ],
)
def test_a_lacking_decoder_is_named_before_anything_is_read(
    dicom, syntax: UID, match: str, tmp_path: Path
) -> None:
    sets = dicom.datasets(dicom.scan())
    for ds in sets:
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax
    dicom.write(tmp_path, sets)
    with pytest.raises(DataError, match=match):
        open_volume(tmp_path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
def test_truncated_and_missing_pixels(dicom, syntax: UID, tmp_path: Path) -> None:
    hu = np.random.default_rng(3).integers(-1000, 1000, (2, 64, 64)).astype(np.int16)
    sets = dicom.datasets(hu)
    if syntax.is_compressed:
        for ds in sets:
            ds.compress(syntax, generate_instance_uid=False)
    paths = dicom.write(tmp_path, sets)
    whole = paths[0].read_bytes()
    for keep in (0.95, 0.6):
        paths[0].write_bytes(whole[: int(len(whole) * keep)])
        refused(tmp_path, rf"{paths[0].name}")
    del sets[0].PixelData
    sets[0].save_as(paths[0])
    refused(tmp_path, f"{paths[0].name}.* has no pixels")


def test_values_that_are_no_hounsfield_units(dicom, tmp_path: Path) -> None:
    sets = dicom.datasets(np.arange(480).reshape(6, 8, 10) % 256, intercept=0)
    dicom.write(tmp_path, sets)
    refused(tmp_path, "cannot be Hounsfield units")


def test_a_slice_without_air_is_no_fault_where_others_have_it(dicom, tmp_path: Path) -> None:
    hu = dicom.scan()
    hu[3] = 40
    dicom.write(tmp_path, dicom.datasets(hu))
    np.testing.assert_array_equal(open_volume(tmp_path).read_hu([3]), hu[3:4])


def enhanced(sets: list[Dataset]) -> Dataset:
    """One file of many frames from slices, in shuffled order of frames."""
    ds = Dataset()
    ds.update({element.tag: element for element in sets[0]})
    ds.file_meta = sets[0].file_meta
    ds.SOPClassUID, ds.SOPInstanceUID, ds.NumberOfFrames = EnhancedCTImageStorage, "1.2.5", len(sets)
    shared, frames = Dataset(), []
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, ds.SliceThickness
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = (
        Sequence([measures]),
        Sequence([orientation]),
    )
    order = [3, 0, 5, 1, 4, 2]
    for k in order:
        frame, position, scale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = sets[k].ImagePositionPatient
        scale.RescaleSlope, scale.RescaleIntercept = sets[k].RescaleSlope, sets[k].RescaleIntercept
        scale.RescaleType = "HU"
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([scale])
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del ds[keyword]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del ds[keyword]
    ds.PixelData = b"".join(sets[k].PixelData for k in order)
    return ds


def test_enhanced_ct_of_many_frames(dicom, tmp_path: Path) -> None:
    hu = dicom.scan() // 2 * 2
    sets = [dicom.datasets(hu, intercept=-1024 - 2 * k)[k] for k in range(6)]
    path = dicom.write(tmp_path, [enhanced(sets)])[0]
    np.testing.assert_array_equal(read(tmp_path), hu)
    np.testing.assert_array_equal(open_volume(path).read_hu([0, 4]), hu[[0, 4]])


def test_frames_without_their_places_are_refused(dicom, tmp_path: Path) -> None:
    made = enhanced(dicom.datasets(dicom.scan()))
    del made.PerFrameFunctionalGroupsSequence
    dicom.write(tmp_path, [made])
    refused(tmp_path, "6 frames without saying where each lies.*dcm2niix")


def test_a_series_is_no_mask(dicom, tmp_path: Path) -> None:
    dicom.write(tmp_path, dicom.datasets(dicom.scan()))
    volume = open_volume(tmp_path)
    with pytest.raises(DataError, match="is a DICOM image, no mask"):
        volume.read_mask(volume)


def test_nothing_kept_or_shown_names_the_patient(dicom, tmp_path: Path) -> None:
    paths = dicom.write(tmp_path, dicom.datasets(dicom.scan()))
    assert b"SECRET" in paths[0].read_bytes()
    volume = open_series(tmp_path, paths)
    assert "SECRET" not in repr(volume)
