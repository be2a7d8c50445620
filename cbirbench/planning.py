"""From what the user asked for to a plan: names looked up, options resolved, everything checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cbirbench import registry
from cbirbench.asked_metrics import metrics_of
from cbirbench.contenders import contenders_of
from cbirbench.doubts import heard
from cbirbench.errors import MissingError, PluginError, UsageError
from cbirbench.explain.precision import resolved
from cbirbench.explain.relax import RelaxOptions
from cbirbench.interfaces import Benchmark, Metric, Options, Source
from cbirbench.leakage import crossing_patients
from cbirbench.plan import Contender, ExternalCohort, Plan, Request
from cbirbench.plugin_facts import families, own_options
from cbirbench.registry import Plugin
from cbirbench.settings import Assignment, RunOptions, Settings, parse_assignments

COHORT_READER = "folder"
"""The benchmark whose reader, and whose options, external cohorts have."""

COHORT_PLACES = ("data", "images", "masks", "manifest", "labels")
"""Its options that say where scans are; those of cohorts are said by --queries."""

MOST_NAMED = 20
"""Patients that an error names."""


def build(request: Request) -> Plan:
    """Resolve and check a request. Weights, data and system libraries are checked here, before hours of work.

    Raises:
        UsageError: A name, option or value is wrong.
        MissingError: Weights, a GPU or a library is not here.
        DataError: The benchmark's data cannot be used.
        PluginError: A plugin cannot be used.
    """
    if not request.extractors:
        raise UsageError("No extractor was named.", "Name some: --extractors ours,hog,gabor")
    assignments = parse_assignments(request.assignments)
    benchmark_plugin = registry.find("benchmark", request.benchmark)
    benchmark_class = registry.load(benchmark_plugin)
    settings = Settings(request.profile, benchmark_class.defaults, assignments)
    run_options = settings.resolve(
        RunOptions,
        ["run"],
        runs=request.runs,
        eval_every=request.eval_every,
        explain_every=request.explain_every,
    )
    relax = settings.resolve(RelaxOptions, ["relax"], until_reliable=request.until_reliable)
    assert isinstance(run_options, RunOptions) and isinstance(relax, RelaxOptions)
    benchmark_options = resolve_benchmark(settings, benchmark_plugin, request.data)
    benchmark: Benchmark = registry.make(benchmark_plugin, benchmark_options)
    metric_plugins, metrics = metrics_of(settings, request.metrics)
    device = choose_device(request.device)
    relax = relax.model_copy(update={"precision": resolved(relax.precision, device)})
    doubts: list[str] = []
    with heard(doubts):
        structures = dict(benchmark.structures)  # it may read the names from a file: now, not after hours
        sources = benchmark.sources()
        _check_sources(sources, request.benchmark)
        cohorts = _cohorts(settings, request, benchmark_plugin.name, sources, structures)
    contenders = contenders_of(settings, request.extractors, device, run_options.runs)
    explains = bool(request.explain_queries) or any(m.needs == "explanations" for m in metrics)
    if not explains:
        settings.disregard("relax")
    if not any(contender.trained for contender in contenders):
        settings.disregard("run", "runs")
    notes = [*doubts, *leftovers(settings, assignments), *_idle_curves(run_options, metrics, contenders)]
    if explains and relax.masks < relax.grid**2:
        notes.append(
            f"{relax.masks} masks are fewer than the {relax.grid**2} cells of a mask's grid: maps are mostly "
            "noise. See their reliability."
        )
    return Plan(
        request=request,
        benchmark_plugin=benchmark_plugin,
        benchmark=benchmark,
        benchmark_options=benchmark_options,
        sources=sources,
        contenders=contenders,
        metrics=metrics,
        metric_plugins=metric_plugins,
        run_options=run_options,
        relax=relax,
        device=device,
        departures=list(settings.departures.values()),
        title=settings.title(),
        notes=notes,
        cohorts=cohorts,
        structures=structures,
    )


def _cohorts(
    settings: Settings,
    request: Request,
    benchmark: str,
    sources: Sequence[Source],
    structures: Mapping[int, str],
) -> list[ExternalCohort]:
    """The external cohorts, each with its scans looked up."""
    if request.gallery == "self" and not request.queries:
        raise UsageError(
            "--gallery self ranks an external cohort against itself, and none was given.",
            "Give one with --queries, or leave --gallery out.",
        )
    if not request.queries:
        return []
    from cbirbench.datasets.cohort import cohort_of

    plugin = registry.find("benchmark", COHORT_READER)
    options = settings.resolve(registry.load(plugin).options_type, plugin.names)
    if benchmark != COHORT_READER:
        given = [name for name in COHORT_PLACES if getattr(options, name) is not None]
        if given:
            raise UsageError(
                f"--set {COHORT_READER}.{given[0]} says where the benchmark folder's scans are, but this run "
                f"is on {benchmark}; a cohort's are looked for where --queries says.",
                "Put masks beside the images (folders images and masks) or slice_labels.csv into the folder "
                "of the cohort, or name all of them in a manifest: --queries FILE.csv.",
            )
    cohorts: list[ExternalCohort] = []
    for text in request.queries:
        found = cohort_of(text, options)
        # A cohort has a folder of its name, and some systems do not tell capitals.
        if found.name.casefold() in [name.casefold() for name in (benchmark, *(c.name for c in cohorts))]:
            raise UsageError(
                f"Two cohorts are called {found.name!r}.",
                f"Give one another name: --queries NAME={text.partition('=')[2] or text}",
            )
        own = found.benchmark.sources()
        _check_volumes(own, found.name)
        # Whatever it is looked up in: extractors are trained on the benchmark's gallery.
        gallery = [source for source in sources if source.split == "gallery"]
        _check_patients(gallery, own, f"the cohort {found.name}")
        cohorts.append(
            ExternalCohort(
                found.name,
                plugin,
                found.benchmark,
                found.benchmark.options,
                own,
                # The organ that is looked for is the benchmark's, where the cohort has no name for it.
                dict(found.benchmark.structures) or structures,
                found.benchmark.synthetic,
            )
        )
    return cohorts


def _idle_curves(
    options: RunOptions, metrics: Sequence[Metric], contenders: Sequence[Contender]
) -> list[str]:
    """Notes on curves that were asked for and have nothing to show."""
    trained = any(contender.trained for contender in contenders)
    notes = []
    for flag, stride, explained in (
        ("--eval-every", options.eval_every, False),
        ("--explain-every", options.explain_every, True),
    ):
        due = any((metric.needs == "explanations") == explained for metric in metrics)
        if stride and not (trained and due):
            which = "no metric on explanations" if explained else "no metric but those on explanations"
            lacking = which if trained else "no extractor that trains"
            notes.append(f"{flag} {stride} has no effect: this run has {lacking}.")
    return notes


def resolve_benchmark(settings: Settings, plugin: Plugin, data: Path | None) -> Options:
    """A benchmark's options; `data`, where given, outranks what ``--set`` says.

    Raises:
        UsageError: `data` was given and the benchmark reads no scans, or a value does not fit.
    """
    options_type = registry.load(plugin).options_type
    fixed: dict[str, Any] = {}
    if data is not None:
        if "data" not in options_type.model_fields:
            raise UsageError(
                f"The benchmark {plugin.name!r} reads no scans, but --data {data} was given.",
                "Leave --data out, or name a benchmark that reads scans, such as decathlon.",
            )
        fixed["data"] = data
    return settings.resolve(options_type, plugin.names, **fixed)


def choose_device(asked: str) -> str:
    """``auto`` takes CUDA where there is a GPU.

    Raises:
        MissingError: ``cuda`` was asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise MissingError(
            "--device cuda was asked for, but PyTorch sees no CUDA device.",
            "Check nvidia-smi and the installed build of torch, or use --device cpu.",
        )
    return "cuda" if asked == "cuda" or (asked == "auto" and available) else "cpu"


def _check_sources(sources: Sequence[Source], benchmark: str) -> None:
    _check_volumes(sources, benchmark)
    for split in ("gallery", "query"):
        if not any(source.split == split for source in sources):
            raise UsageError(
                f"The benchmark {benchmark!r} has no {split} scans with these options.",
                "Give it at least one scan for the gallery and one for the queries.",
            )
    sides = [[source for source in sources if source.split == split] for split in ("gallery", "query")]
    _check_patients(sides[0], sides[1], "the queries")


def _check_volumes(sources: Sequence[Source], benchmark: str) -> None:
    volumes = [source.volume_id for source in sources]
    if len(set(volumes)) < len(volumes):
        twice = next(volume for volume in volumes if volumes.count(volume) > 1)
        raise PluginError(
            f"The benchmark {benchmark!r} gives {len(volumes)} scans, two of them with the id {twice!r}.",
            "Report it to the plugin's authors: each scan needs an id of its own.",
        )


def _check_patients(gallery: Sequence[Source], queries: Sequence[Source], side: str) -> None:
    crossing = crossing_patients(
        (source.patient_id for source in gallery), (source.patient_id for source in queries)
    )
    if crossing:
        more = f" and {len(crossing) - MOST_NAMED} more" if len(crossing) > MOST_NAMED else ""
        raise UsageError(
            f"{len(crossing)} patients are in the gallery and in {side}: "
            f"{', '.join(crossing[:MOST_NAMED])}{more}.",
            "A patient belongs to one side, or the retrieval only recognises the patient. Where two patients "
            "share an id by chance, name them apart in a manifest.",
        )


def leftovers(settings: Settings, assignments: Sequence[Assignment]) -> list[str]:
    """Notes on assignments that nothing of this run took up; a name that nobody has is an error."""
    notes = []
    own = own_options()
    known = {name for plugin in registry.all_installed() for name in plugin.names}
    known |= own.keys()
    for given in [given for given in assignments if given not in settings.used]:
        members: tuple[str, ...] = ()
        if given.name not in known:
            in_families = families()
            members = in_families.get(given.name, ())
            if not members:
                meant = registry.nearest(given.name, known | in_families.keys() | settings.seen.keys())
                raise UsageError(
                    f"--set {given}: nothing is called {given.name!r}.",
                    f"{meant}Names are those of "
                    "`cbirbench plugins list`, and run and relax; `cbirbench plugins show NAME` describes "
                    "the options of each.",
                )
        if given.name in own:
            settings.resolve(own[given.name], [given.name], departs=False)
        for plugin in registry.all_installed():
            if (given.name in plugin.names or plugin.name in members) and not plugin.problem:
                settings.resolve(registry.load(plugin).options_type, plugin.names, departs=False)
        reason = "only a run uses it" if given.name in own else f"{given.name} takes no part in this run"
        notes.append(f"--set {given} has no effect: {reason}.")
    return notes
