"""`cbirbench data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cbirbench.commands.options import JsonOption, names
from cbirbench.commands.speaking import console, reported, say
from cbirbench.errors import UsageError


def data_check(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of scans, or of folders of them; or a manifest that names them."
        ),
    ],
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, if not beside the scans.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables and pictures (default: data-check-DIR, here).")
    ] = None,
    organ: Annotated[
        str,
        typer.Option(
            help="What the masks mark (default: liver where a folder's name or dataset.json says so)."
        ),
    ] = "",
    targets: Annotated[
        str,
        typer.Option(help="The masks' values that are the target, comma-separated (default: all above 0)."),
    ] = "",
    unstated_orientation: Annotated[
        str,
        typer.Option(
            metavar="CODES", help="Where the axes of files point that do not say it: LPS, for instance."
        ),
    ] = "",
    mask_grid: Annotated[
        str, typer.Option(help="own, or image: a mask's voxels are its scan's whatever its affine says.")
    ] = "own",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings, too, end with exit code 1.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every scan and mask of a cohort and say what they are like and what is wrong with them.

    Exits with 0 when everything is readable, 1 when anything is not, 2 for a mistake in the command.
    """
    with reported():
        values = _values(targets)
        if mask_grid not in ("own", "image"):
            raise UsageError(f"--mask-grid is own or image, got {mask_grid!r}.", "Give one of them.")
        from cbirbench.checking.cohort_check import CHECK_FILE, CheckRequest, check_cohort, default_out
        from cbirbench.console import ConsoleProgress
        from cbirbench.datasets.scan_options import ScanOptions
        from cbirbench.scans.geometry import orientation

        grid: Literal["own", "image"] = "image" if mask_grid == "image" else "own"
        options = ScanOptions(
            targets=values,
            unstated_orientation=orientation(unstated_orientation) if unstated_orientation else "",
            mask_grid=grid,
        )
        request = CheckRequest(place, masks, options, organ.strip(), out or default_out(place))
        cohort = check_cohort(request, ConsoleProgress(console(stderr=True), quiet=as_json))
        if as_json:
            typer.echo((request.out / CHECK_FILE).read_text(encoding="utf-8"), nl=False)
        else:
            from cbirbench.report.cohort_table import print_cohort

            print_cohort(cohort, console(stderr=False))
            pictures = " ".join(str(request.out / name) for name in cohort.pictures[:3])
            more = f" and {len(cohort.pictures) - 3} more" if len(cohort.pictures) > 3 else ""
            say(f"Wrote {request.out}. Look at every patient: {pictures}{more}")
        if not cohort.passed(strict=strict):
            raise typer.Exit(1)


def _values(text: str) -> tuple[int, ...]:
    given = names(text)
    wrong = [value for value in given if not (value.isdecimal() and 1 <= int(value) <= 255)]
    if wrong:
        raise UsageError(
            f"--targets takes whole numbers from 1 to 255, got {wrong[0]!r}.", "Give 1,2 for instance."
        )
    return tuple(int(value) for value in given)
