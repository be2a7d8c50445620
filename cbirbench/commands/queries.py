"""`cbirbench query` and `cross-exam`: a user's own scans, looked up with a finished run's extractors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cbirbench.commands.options import (
    Device,
    DeviceOption,
    ExplainOption,
    JsonOption,
    OrientationOption,
    OwnExtractorOption,
    OwnRunOption,
    RelaxSetOption,
    RunFolderArgument,
    TopOption,
    UncertaintyOption,
    UnstatedOption,
    UntilReliableOption,
)
from cbirbench.commands.speaking import console, reported, say
from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from cbirbench.cases.asking import Answer


def query(
    folder: RunFolderArgument,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A scan: a file, or the folder of a DICOM series.")
    ],
    slices: Annotated[
        str,
        typer.Option("--slice", metavar="Z", help="40, or 40,42, or 40-45; 0 is the most inferior slice."),
    ] = "",
    extractor: OwnExtractorOption = "",
    run: OwnRunOption = 0,
    top: TopOption = None,
    explain: ExplainOption = False,
    until_reliable: UntilReliableOption = None,
    uncertainty: UncertaintyOption = False,
    assignments: RelaxSetOption = None,
    orientation: OrientationOption = "",
    unstated: UnstatedOption = "",
    series: Annotated[str, typer.Option(help="Which DICOM series, where a folder holds several.")] = "",
    device: DeviceOption = Device.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture: .png, .svg or .pdf (default: EXTRACTOR-IMAGE_zSLICE.png, here)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find a finished run's gallery slices nearest to slices of a scan of your own, and draw them."""
    with reported():
        from cbirbench.cases.asking import Asked
        from cbirbench.cases.querying import query_scan
        from cbirbench.cases.studies import ScanFile
        from cbirbench.console import ConsoleProgress
        from cbirbench.store import Store, cache_folder

        asked = Asked(
            folder=folder,
            extractor=extractor,
            run=run,
            device=device.value,
            top=top,
            explain=explain,
            until_reliable=until_reliable,
            uncertainty=uncertainty,
            assignments=tuple(assignments or ()),
        )
        file = ScanFile(image, orientation, unstated, series)
        progress = ConsoleProgress(console(stderr=True), quiet=as_json)
        answer = query_scan(asked, file, slices, out, Store(cache_folder()), progress)
        _tell(answer, as_json=as_json)


def cross_exam(
    folder: RunFolderArgument,
    query: Annotated[Path | None, typer.Option(metavar="NEW", help="The new study.")] = None,
    slices: Annotated[
        str, typer.Option("--slice", metavar="Z", help="Which of its slices; 0 is the most inferior.")
    ] = "",
    previous: Annotated[Path | None, typer.Option(metavar="OLD", help="The previous study.")] = None,
    expert: Annotated[
        str | None,
        typer.Option(metavar="Z,Z,...", help="Slices of OLD that an expert chose, the best first."),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Rank once more, with neighbouring slices.")
    ] = False,
    reach: Annotated[
        str | None,
        typer.Option(
            metavar="R",
            help="How far neighbours count: 20mm, or 2 for two slices of NEW on either side "
            "(default: 20mm); implies --smooth.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Many pairs, scored: columns query, previous, and any of slice, expert, query_mask, "
            "previous_mask, previous_slice.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="MM", help="With --pairs: how near to previous_slice is a hit (default: 10)."),
    ] = None,
    extractor: OwnExtractorOption = "",
    run: OwnRunOption = 0,
    top: TopOption = None,
    explain: ExplainOption = False,
    until_reliable: UntilReliableOption = None,
    uncertainty: UncertaintyOption = False,
    assignments: RelaxSetOption = None,
    orientation: OrientationOption = "",
    previous_orientation: Annotated[str, typer.Option(metavar="LPS", help="The same of OLD's axes.")] = "",
    unstated: UnstatedOption = "",
    series: Annotated[str, typer.Option(help="Which DICOM series of NEW, of several.")] = "",
    previous_series: Annotated[str, typer.Option(help="Which DICOM series of OLD, of several.")] = "",
    device: DeviceOption = Device.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The picture (default: EXTRACTOR-NEW_zSLICE-in-OLD.png, here); with --pairs a folder "
            "(default: cross-exam-CSV)."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the slices of a previous study for a slice of a new one, as in the paper's figure 12."""
    with reported():
        single = {
            "--query": query,
            "--slice": slices,
            "--previous": previous,
            "--expert": expert,
            "--explain": explain,
            "--until-reliable": until_reliable is not None,
            "--uncertainty": uncertainty,
            "--set": assignments,
            "--orientation": orientation,
            "--previous-orientation": previous_orientation,
            "--series": series,
            "--previous-series": previous_series,
        }
        beside = [name for name, given in single.items() if given]
        if pairs is not None and beside:
            raise UsageError(
                f"--pairs and {beside[0]} were given: the CSV file says what is examined.",
                "Leave one of them out.",
            )
        if pairs is None and (query is None or previous is None):
            raise UsageError(
                "A new and a previous study are needed.",
                "Give --query NEW --slice Z --previous OLD, or --pairs CSV.",
            )
        if pairs is None and tolerance is not None:
            raise UsageError("--tolerance is for --pairs, which was not given.", "Leave it out.")
        from cbirbench.cases.asking import Asked
        from cbirbench.cases.cross_exam_pairs import TOLERANCE_MM, PairsRequest, examine_pairs
        from cbirbench.cases.cross_examination import ExamRequest, cross_examine
        from cbirbench.cases.spatial_coherence import DEFAULT_REACH, parse_reach
        from cbirbench.cases.studies import ScanFile
        from cbirbench.console import ConsoleProgress
        from cbirbench.store import Store, cache_folder

        asked = Asked(
            folder=folder,
            extractor=extractor,
            run=run,
            device=device.value,
            top=top,
            explain=explain,
            until_reliable=until_reliable,
            uncertainty=uncertainty,
            assignments=tuple(assignments or ()),
        )
        store = Store(cache_folder())
        progress = ConsoleProgress(console(stderr=True), quiet=as_json)
        how_far = parse_reach(reach if reach is not None else DEFAULT_REACH)
        if pairs is not None:
            place = out or Path(f"cross-exam-{pairs.stem}")
            within = TOLERANCE_MM if tolerance is None else tolerance
            request = PairsRequest(asked, pairs, place, how_far, within, unstated)
            _tell(examine_pairs(request, store, progress), as_json=as_json)
            return
        assert query is not None and previous is not None
        exam = ExamRequest(
            asked=asked,
            query=ScanFile(query, orientation, unstated, series),
            slice=slices,
            previous=ScanFile(previous, previous_orientation, unstated, previous_series),
            expert=expert,
            reach=how_far if smooth or reach is not None else None,
            out=out,
        )
        _tell(cross_examine(exam, store, progress), as_json=as_json)


def _tell(answer: Answer, *, as_json: bool) -> None:
    """Print an answer; notes go to standard error, and are in the JSON as well."""
    for note in answer.notes:
        say(f"Note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps(answer.document, indent=1, allow_nan=False))
    else:
        for line in answer.lines:
            say(line)
