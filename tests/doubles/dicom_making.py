"""Small DICOM series and segmentations for tests; `conftest.py` hands them out as the fixture `dicom`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SECRET = "SECRET"


class DicomMaking:
    """Makes small CT series in DICOM, one file a slice, whose names say nothing of their order.

    Attributes:
        secret: What must never be shown.
    """

    secret = SECRET

    @staticmethod
    def scan(slices: int = 6, rows: int = 8, columns: int = 10) -> np.ndarray:
        """HU in radiological view, no two voxels alike, from -1000 upwards."""
        count = slices * rows * columns
        values = np.random.default_rng(1).permutation(count) * (2000 // count) - 1000
        return values.reshape(slices, rows, columns).astype(np.int16)

    @staticmethod
    def datasets(
        hu: np.ndarray,
        *,
        directions: Sequence[float] = (1, 0, 0, 0, 1, 0),
        step: Sequence[float] = (0, 0, 2.5),
        origin: Sequence[float] = (-120, -80, -300),
        signed: bool = False,
        intercept: float = -1024,
        slope: float = 1,
        frame: str = "1.2.3.9",
        spacing: Sequence[float] = (0.8, 0.8),
        seed: str = "one",
    ) -> list[Dataset]:
        """One dataset a plane of `hu`; places and directions are DICOM's: left, posterior, superior."""
        found = []
        for k, plane in enumerate(hu):
            ds = Dataset()
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
            ds.SOPInstanceUID = generate_uid(entropy_srcs=[seed, "slice", str(k)])
            ds.SeriesInstanceUID = generate_uid(entropy_srcs=[seed, "series"])
            ds.StudyInstanceUID = generate_uid(entropy_srcs=[seed, "study"])
            ds.FrameOfReferenceUID = frame
            ds.PatientName, ds.PatientID, ds.AccessionNumber = f"{SECRET}^NAME", f"{SECRET} {seed}", SECRET
            ds.PatientBirthDate, ds.PatientSex, ds.ReferringPhysicianName = "19010203", "O", SECRET
            ds.InstitutionName = SECRET
            ds.StudyDate, ds.StudyTime, ds.StudyID = "20200102", "101010", SECRET
            ds.SeriesNumber, ds.InstanceNumber = 1, len(hu) - k
            ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            ds.ImageOrientationPatient = list(directions)
            ds.ImagePositionPatient = [float(o + k * s) for o, s in zip(origin, step, strict=True)]
            ds.PixelSpacing, ds.SliceThickness = list(spacing), 2.5
            ds.Rows, ds.Columns = plane.shape
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
            ds.PixelRepresentation = int(signed)
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "HU"
            stored = np.rint((plane.astype(float) - intercept) / slope)
            ds.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
            found.append(ds)
        return found

    @staticmethod
    def write(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
        """Write files in whose order of names slices are shuffled; paths in the order of the datasets."""
        folder.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(len(datasets)).permutation(len(datasets))
        paths = [folder / f"{place:03d}.dcm" for place in order]
        for path, ds in zip(paths, datasets, strict=True):
            ds.save_as(path, enforce_file_format=True)
        return paths

    @staticmethod
    def segmentation(
        path: Path, sources: Sequence[Dataset], masks: np.ndarray, kind: str = "BINARY", **options: Any
    ) -> Path:
        """Write a DICOM SEG by highdicom: `masks` of shape (slices, rows, columns[, segments])."""
        import highdicom as hd
        from pydicom.sr.codedict import codes

        segments = masks.shape[3] if masks.ndim == 4 else int(masks.max())
        described = [
            hd.seg.SegmentDescription(
                segment_number=n,
                segment_label=f"organ {n}",
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Liver,
                algorithm_type="MANUAL",
            )
            for n in range(1, segments + 1)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = hd.seg.Segmentation(
                source_images=list(sources),
                pixel_array=masks,
                segmentation_type=kind,
                segment_descriptions=described,
                series_instance_uid=generate_uid(),
                series_number=2,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="none",
                manufacturer_model_name="none",
                software_versions="1",
                device_serial_number="1",
                **options,
            )
            made.save_as(path)
        return path
