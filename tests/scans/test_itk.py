from __future__ import annotations

import gzip
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from cbirbench.errors import DataError, DataWarning
from cbirbench.scans.volumes import open_volume

ENDINGS = [".nrrd", ".nhdr", ".mha", ".mhd"]


def scan(slices: int = 6, rows: int = 8, columns: int = 10) -> np.ndarray:
    """HU in radiological view, from -1000 upwards, no two voxels alike."""
    count = slices * rows * columns
    values = np.random.default_rng(1).permutation(count) * (2000 // count) - 1000
    return values.reshape(slices, rows, columns).astype(np.int16)


def write(
    path: Path, values: np.ndarray, *, vector: bool = False, compressed: bool = False, placed: bool = True
) -> Path:
    image = sitk.GetImageFromArray(values, isVector=vector)
    if placed:
        image.SetSpacing((0.8, 0.8, 2.5)[: image.GetDimension()])
        image.SetOrigin((-120.0, -80.0, -300.0)[: image.GetDimension()])
    sitk.WriteImage(image, str(path), compressed)
    return path


def data_file(path: Path) -> Path:
    """Where a file's voxels are."""
    return next(
        (other for other in path.parent.iterdir() if other != path and other.stem.startswith(path.stem)), path
    )


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_slices_and_affine(ending: str, compressed: bool, tmp_path: Path) -> None:
    hu = scan()
    volume = open_volume(write(tmp_path / f"scan{ending}", hu, compressed=compressed))
    assert volume.stated
    assert volume.grid.shape == (10, 8, 6)
    np.testing.assert_allclose(
        volume.grid.affine, [[-0.8, 0, 0, 120], [0, -0.8, 0, 80], [0, 0, 2.5, -300], [0, 0, 0, 1]]
    )
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu)
    found = volume.read_hu([1, 4])
    np.testing.assert_array_equal(found, hu[[1, 4]])
    assert found.dtype == np.int16
    assert found.flags.c_contiguous


@pytest.mark.filterwarnings("ignore::cbirbench.errors.DataWarning")  # of pixels that are not square
@settings(max_examples=25, deadline=None)
@given(angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), ending=st.sampled_from([".nrrd", ".mha"]))
def test_nibabel_writes_the_same_grid(
    angles: tuple[float, float, float], ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*angles)
    image = sitk.GetImageFromArray(scan(3, 4, 5))
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((5, -7, 11))
    image.SetDirection(turn.GetMatrix())
    folder = tmp_path_factory.mktemp("turned")
    sitk.WriteImage(image, str(folder / f"scan{ending}"))
    ours = open_volume(folder / f"scan{ending}")
    affine = np.eye(4)  # each voxel's place from ITK itself, then to the right and anterior
    origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    for axis, index in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1))):
        affine[:3, axis] = np.array(image.TransformIndexToPhysicalPoint(index)) - origin
    affine[:3, 3] = origin
    affine[:2] *= -1
    stored = sitk.GetArrayFromImage(image).T
    nib.save(nib.Nifti1Image(stored, affine), folder / "scan.nii")
    theirs = open_volume(folder / "scan.nii")
    np.testing.assert_allclose(ours.grid.affine, theirs.grid.affine, atol=1e-4)
    every = range(theirs.grid.slice_count)
    np.testing.assert_array_equal(ours.read_hu(every), theirs.read_hu(every))


def header(
    space: str = "space: left-posterior-superior", directions: str = "(.8,0,0) (0,.8,0) (0,0,2.5)"
) -> str:
    lines = [
        "NRRD0005",
        "type: short",
        "dimension: 3",
        space,
        "sizes: 10 8 6",
        "endian: little",
        "encoding: raw",
    ]
    lines += (
        [f"space directions: {directions}", "space origin: (1,2,3)"] if space else ["spacings: .8 .8 2.5"]
    )
    return "\n".join(line for line in lines if line) + "\n\n"


def test_other_anatomical_spaces(tmp_path: Path) -> None:
    hu = scan()
    stored = np.ascontiguousarray(hu[:, ::-1, ::-1])  # columns to the right, rows to the front
    path = tmp_path / "scan.nrrd"
    path.write_bytes(header("space: right-anterior-superior").encode() + stored.tobytes())
    volume = open_volume(path)
    np.testing.assert_allclose(
        volume.grid.affine, [[0.8, 0, 0, 1], [0, 0.8, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]]
    )
    assert volume.stated
    np.testing.assert_array_equal(volume.read_hu(range(6)), hu)


@pytest.mark.parametrize("space", ["", "space: scanner-xyz"])
def test_nrrd_without_anatomical_space_states_no_orientation(space: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(header(space).encode() + scan().tobytes())
    with pytest.warns(DataWarning, match="states no orientation. It is read as LPS"):
        volume = open_volume(path)
    assert not volume.stated
    assert volume.grid.voxel_mm == pytest.approx((2.5, 0.8, 0.8))
    assert open_volume(path, unstated="RAS").grid.codes == "RAS"


def test_metaimage_without_directions_or_with_the_default_geometry(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.mha", scan())
    assert open_volume(path, unstated="RAS").grid.codes == "LPS"
    content = path.read_bytes()
    lines = content.split(b"\n")
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith((b"TransformM", b"Anatom"))))
    assert open_volume(path, unstated="RAS").grid.codes == "RAS"
    default = write(tmp_path / "default.mha", scan(), placed=False)
    assert open_volume(default, unstated="RAS").grid.codes == "RAS"


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint16, np.float32, np.float64, np.int64])
def test_masks_of_any_type(dtype: type, tmp_path: Path) -> None:
    image = open_volume(write(tmp_path / "scan.nrrd", scan()))
    mask = np.random.default_rng(0).integers(0, 4, (6, 8, 10))
    label = open_volume(write(tmp_path / "label.nrrd", mask.astype(dtype)))
    found = label.read_mask(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("wrong", [0.5, -1, 256, np.nan])
def test_masks_hold_whole_numbers_up_to_255(wrong: float, tmp_path: Path) -> None:
    image = open_volume(write(tmp_path / "scan.nrrd", scan()))
    mask = np.zeros((6, 8, 10), np.float32)
    mask[4, 2, 3] = wrong
    with pytest.raises(DataError, match="whole numbers from 0 to 255"):
        open_volume(write(tmp_path / "label.mha", mask)).read_mask(image)


def test_masks_of_other_geometry_are_refused(tmp_path: Path) -> None:
    image = open_volume(write(tmp_path / "scan.nrrd", scan()))
    small = open_volume(write(tmp_path / "small.nrrd", np.zeros((5, 8, 10), np.uint8)))
    with pytest.raises(DataError, match="has shape"):
        small.read_mask(image)
    moved = sitk.GetImageFromArray(np.zeros((6, 8, 10), np.uint8))
    moved.SetSpacing((0.8, 0.8, 2.5))
    sitk.WriteImage(moved, str(tmp_path / "moved.nrrd"))
    with pytest.raises(DataError, match="mm apart"):
        open_volume(tmp_path / "moved.nrrd").read_mask(image)


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SAR"])
@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_a_whole_scan_takes_the_memory_of_its_slices_and_of_the_file(
    codes: str, dtype: type, tmp_path: Path
) -> None:
    hu = np.random.default_rng(2).integers(-1000, 1000, size=(90, 100, 110)).astype(dtype)
    image = sitk.DICOMOrient(sitk.GetImageFromArray(hu), codes)
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    with pytest.warns(DataWarning) if codes == "LPS" else nullcontext():  # the default geometry
        volume = open_volume(tmp_path / "scan.nrrd")
    tracemalloc.start()  # which does not see SimpleITK's own memory
    slices = volume.read_hu(range(90))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(slices, hu)
    assert slices.flags.c_contiguous
    assert peak < 1.3 * slices.nbytes


@pytest.mark.parametrize("value", [0.4, 0.5, 0.6, 1.5, -0.5])
def test_fractions_are_rounded(value: float, tmp_path: Path) -> None:
    hu = scan().astype(np.float32)
    hu[2, 3, 4] = value
    assert open_volume(write(tmp_path / "scan.mha", hu)).read_hu([2])[0, 3, 4] == round(value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_are_no_hounsfield_units(value: float, tmp_path: Path) -> None:
    hu = scan().astype(np.float32)
    hu[5, 1, 1] = value
    volume = open_volume(write(tmp_path / "scan.nrrd", hu))
    with pytest.raises(DataError, match=r"NaN or infinite|16-bit"):
        volume.read_hu([0])
    with pytest.raises(DataError, match="cannot be Hounsfield units"):
        open_volume(write(tmp_path / "grey.mha", (scan() % 256).astype(np.uint8))).read_hu([0])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_than_one_scalar_volume_is_refused(ending: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 values a voxel, colours or vectors"):
        open_volume(write(tmp_path / f"rgb{ending}", np.zeros((4, 5, 6, 3), np.uint8), vector=True))
    with pytest.raises(DataError, match=r"one 3-D volume, its shape is \(6, 5, 4, 3\)"):
        open_volume(write(tmp_path / f"time{ending}", np.zeros((3, 4, 5, 6), np.int16), placed=False))
    with pytest.raises(DataError, match=r"one 3-D volume, its shape is \(6, 5\)"):
        open_volume(write(tmp_path / f"plane{ending}", np.zeros((5, 6), np.int16)))
    with pytest.raises(DataError, match="2 values a voxel"):
        open_volume(write(tmp_path / "complex.mha", np.zeros((4, 5, 6), np.complex64)))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.0])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_truncated_voxels(
    ending: str, compressed: bool, share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / f"scan{ending}", scan(), compressed=compressed)
    file = data_file(path)
    whole = file.read_bytes()
    start = 0 if file != path else len(whole) - 900  # within the voxels, whose 960 bytes compress little
    file.write_bytes(whole[: int(start + share * (len(whole) - start))])
    with pytest.raises(DataError, match=r"is truncated|cannot be read") as raised:
        open_volume(path).read_hu([0])
    assert "itk" not in str(raised.value).lower()
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ENDINGS)
def test_headers_that_are_cut_or_something_else(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / f"scan{ending}", scan())
    whole = path.read_bytes()
    for content in (
        b"",
        whole[:60],
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"patient,label\n1,0\n",
        whole[:130],
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"scan\."):
            open_volume(path)
    path.unlink()
    with pytest.raises(DataError, match="does not exist"):
        open_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_a_header_without_its_voxels(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"scan{ending}", scan())
    data_file(path).unlink()
    with pytest.raises(
        DataError, match=r"keeps its voxels in 'scan\.raw', which is not there|cannot be read"
    ):
        open_volume(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_header_that_promises_too_much_is_refused_before_memory_is_asked_for(
    ending: str, compressed: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / f"scan{ending}", scan(), compressed=compressed)
    content = path.read_bytes()
    huge = content.replace(b"sizes: 10 8 6", b"sizes: 30000 30000 3000").replace(
        b"DimSize = 10 8 6", b"DimSize = 30000 30000 3000"
    )
    assert huge != content
    path.write_bytes(huge)
    with pytest.raises(DataError, match="is truncated"):
        open_volume(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_compression(ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / f"scan{ending}", scan(), compressed=True)
    file = data_file(path)
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[-400:-300] = bytes(100)  # SimpleITK itself reads it, to other values
    for content in (damaged, whole[:-4] + bytes(4), whole[:-4]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read|truncated"):
            open_volume(path).read_hu([0])
    file.write_bytes(whole)
    np.testing.assert_array_equal(open_volume(path).read_hu(range(6)), scan())
    assert capfd.readouterr() == ("", "")


def test_text_voxels_and_a_file_a_slice(tmp_path: Path) -> None:
    hu = scan()
    text = header().replace("raw", "ascii") + "\n".join(map(str, hu.ravel())) + "\n"
    (tmp_path / "text.nrrd").write_text(text)
    np.testing.assert_array_equal(open_volume(tmp_path / "text.nrrd").read_hu(range(6)), hu)
    for k, plane in enumerate(hu):
        (tmp_path / f"plane{k}.raw").write_bytes(plane.tobytes())
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        "Offset = 1 2 3\nElementSpacing = .8 .8 2.5\nDimSize = 10 8 6\nElementType = MET_SHORT\n"
        "ElementDataFile = plane%d.raw 0 5 1\n"
    )
    (tmp_path / "scan.mhd").write_text(meta)
    np.testing.assert_array_equal(open_volume(tmp_path / "scan.mhd").read_hu(range(6)), hu)
    gzipped = header().replace("raw", "gzip").encode() + gzip.compress(hu.tobytes())
    (tmp_path / "zip.nrrd").write_bytes(gzipped)
    np.testing.assert_array_equal(open_volume(tmp_path / "zip.nrrd").read_hu([5]), hu[5:])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("NDims", "-3"),  # on which SimpleITK crashes
        ("NDims", "300"),
        ("DimSize", "10 8"),
        ("DimSize", "10 -8 6"),
        ("DimSize", "10 8 0"),
        ("TransformMatrix", "1 0 0 1"),
        ("ElementSpacing", "1 1 x"),
    ],
)
def test_damaged_metaimage_headers(field: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path / "scan.mha", scan())
    lines = path.read_bytes().split(b"\n")
    changed = [
        f"{field} = {value}".encode() if line.startswith(f"{field} ".encode()) else line for line in lines
    ]
    assert changed != lines
    path.write_bytes(b"\n".join(changed))
    with pytest.raises(DataError, match=rf"damaged MetaImage header: {field.lower()} is '{value}'"):
        open_volume(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_lost_end_of_line_quotes_no_patient(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Converted from DICOM by ITK, a file bears the patient's name in its header."""
    image = sitk.GetImageFromArray(scan())
    image.SetSpacing((0.8, 0.8, 2.5))
    for tag in ("0010|0010", "0010|0020"):
        image.SetMetaData(tag, "SECRET^NAME")
    path = tmp_path / f"scan{ending}"
    sitk.WriteImage(image, str(path))
    whole = path.read_bytes()
    lines = whole[: whole.index(b"LOCAL") if ending == ".mha" else 700].split(b"\n")
    assert b"SECRET" in whole
    place = refused = 0
    for line in lines[:-1]:
        place += len(line) + 1
        for joined in (b" ", b"x"):  # in place of the line's end, with the patient's name behind
            secret = b"0010|0010 = SECRET^NAME" if ending.startswith(".m") else b"0010|0010:=SECRET^NAME"
            path.write_bytes(whole[: place - 1] + joined + secret + b"\n" + whole[place:])
            try:
                open_volume(path).read_hu([0])
            except DataError as error:
                refused += 1
                assert "SECRET" not in str(error)
    assert refused
    assert "SECRET" not in "".join(capfd.readouterr())
