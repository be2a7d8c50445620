"""What is checked: one installed plugin, the options it is made with, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cbirbench import registry
from cbirbench.conformance.verdicts import Beside, calling
from cbirbench.datasets.phantom import Phantom
from cbirbench.interfaces import Augmentation, Context, Options
from cbirbench.registry import Kind, Plugin
from cbirbench.settings import Assignment, Settings, parse_assignments

Found = TypeVar("Found")


@dataclass
class Subject:
    """A plugin with options.

    Attributes:
        plugin: Its entry point.
        plugin_class: What that names.
        options: What it is made with.
        assignments: The user's options, of this plugin and of augmentations that it asks for.
        scans: How many scans of each side of a benchmark are read.
    """

    plugin: Plugin
    plugin_class: Any
    options: Options
    assignments: Sequence[Assignment] = ()
    scans: int = 2
    settings: Settings = field(init=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.settings = small_settings(self.assignments)
        for given in self.assignments:
            if given.name in (self.options.family, *self.plugin.names):
                self.settings.used.add(given)

    @property
    def name(self) -> str:
        """The plugin's canonical name."""
        return self.plugin.name

    def make(self, options: Options | None = None, *, device: str = "cpu") -> Any:
        """A new instance.

        Raises:
            Fault: Its class raised something.
            CbirbenchError: It refused, in words.
        """
        chosen = self.options if options is None else options
        arguments = (chosen, self.context(device)) if self.plugin.kind == "extractor" else (chosen,)
        return calling(f"{self.name}(options)", lambda: self.plugin_class(*arguments))

    def once(self, key: str, make: Callable[[], Found]) -> Found:
        """What one check finds out and others want too. A failure is kept as well, and raised each time.

        Args:
            key: Says what it is.
            make: Finds it out, when it is first asked for.
        """
        if key not in self._kept:
            try:
                self._kept[key] = make()
            except Exception as error:
                self._kept[key] = _Raised(error)
        found: Found | _Raised = self._kept[key]
        if isinstance(found, _Raised):
            raise found.error
        return found

    def made(self) -> Any:
        """The instance that checks share, where it can be made.

        Raises:
            Fault: As `make`.
            CbirbenchError: As `make`.
        """
        return self.once("made", self.make)

    @property
    def one(self) -> Any:
        """The same for checks of what it does, which say nothing of one that cannot be made.

        Raises:
            Beside: It cannot be made.
        """
        try:
            return self.made()
        except Exception as error:
            raise Beside("It could not be made.") from error

    def context(self, device: str) -> Context:
        """What an extractor is given besides its options."""
        return Context(device=device, augmentation=lambda name: self._augmentation(name)[1])

    def _augmentation(self, name: str) -> tuple[Plugin, Augmentation, Options]:
        plugin = registry.find("augmentation", name)
        options = self.settings.resolve(registry.load(plugin).options_type, plugin.names)
        made: Augmentation = registry.make(plugin, options)
        return plugin, made, options


@dataclass(frozen=True)
class _Raised:
    error: Exception


def small_settings(assignments: Sequence[Assignment]) -> Settings:
    """Options as the phantom sets them: it trains on a CPU, from weights that come with the plugins."""
    return Settings("paper", Phantom.defaults, assignments)


def subject_of(
    kind: Kind, name: str, texts: Sequence[str] = (), *, data: Path | None = None, scans: int = 2
) -> Subject:
    """Look a plugin up and resolve its options.

    Args:
        kind: What it is.
        name: Its name or an alias.
        texts: ``NAME.OPTION=VALUE``, as after ``--set``.
        data: Where its scans are, for a benchmark that reads scans.
        scans: How many scans of each side of a benchmark are read.

    Raises:
        UsageError: There is none of that name, or an option or a value does not fit.
        PluginError: It cannot be used.
    """
    plugin = registry.find(kind, name)
    plugin_class = registry.load(plugin)
    assignments = parse_assignments(texts)
    settings = small_settings(assignments)
    if kind == "benchmark":
        from cbirbench.planning import resolve_benchmark

        options = resolve_benchmark(settings, plugin, data)
    else:
        options = settings.resolve(plugin_class.options_type, plugin.names)
    return Subject(plugin, plugin_class, options, assignments, scans)
