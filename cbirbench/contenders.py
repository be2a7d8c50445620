"""The extractors of a run, as ``--extractors`` names them; one may stand in it under several names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from cbirbench import registry
from cbirbench.errors import CbirbenchError, UsageError
from cbirbench.interfaces import Augmentation, Context, Floor, Options, Trainable
from cbirbench.plan import Contender
from cbirbench.plugin_facts import families
from cbirbench.registry import RESERVED_NAMES, Plugin
from cbirbench.settings import Settings

LONGEST_NAME = 32
"""Characters of the longest name for a variant: it is a column of tables and part of file names."""

_FORM = re.compile(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*")


def contenders_of(settings: Settings, texts: Sequence[str], device: str, runs: int) -> list[Contender]:
    """Look up extractors, resolve their options and make each once, to see that it can be made.

    Args:
        settings: What the user set.
        texts: Names or aliases of extractors; ``NAME=EXTRACTOR`` is a variant, the extractor once more under
            a name of the user's, by which options are set that it alone has.
        device: Where they work, ``cpu`` or ``cuda``.
        runs: How often each trainable one is trained.

    Raises:
        UsageError: There is no such extractor, a name cannot be a variant's or was given twice, or an option
            does not fit.
        MissingError: Weights are not here.
        PluginError: A plugin cannot be used.
    """
    asked_for: list[Plugin] = []
    asked_options: dict[str, Options] = {}

    def augmentation(name: str) -> Augmentation:
        plugin = registry.find("augmentation", name)
        asked_for.append(plugin)
        options = settings.resolve(registry.load(plugin).options_type, plugin.names)
        asked_options[plugin.name] = options
        made: Augmentation = registry.make(plugin, options)
        return made

    contenders: list[Contender] = []
    entries = [_entry(text) for text in texts]
    for variant, plugin, _ in entries:
        settings.seen[variant or plugin.name] = registry.load(plugin).options_type
    for variant, plugin, alias in entries:
        _check_new(variant, plugin, contenders)
        extractor_class = registry.load(plugin)
        options = settings.resolve(extractor_class.options_type, plugin.names, variant=variant)
        is_class = isinstance(extractor_class, type)
        trained, floor = (is_class and issubclass(extractor_class, trait) for trait in (Trainable, Floor))
        context = Context(device=device, augmentation=augmentation)
        contender = Contender(
            plugin,
            alias,
            options,
            context,
            trained,
            runs if trained else 1,
            floor=floor,
            variant=variant,
        )
        asked_for.clear()
        asked_options.clear()
        _try(contender)
        contenders.append(
            replace(contender, augmentations=tuple(asked_for), augmentation_options=dict(asked_options))
        )
    return contenders


def _try(contender: Contender) -> None:
    """Make it once: its weights are looked for now, not after the others were trained."""
    try:
        contender.make()
    except CbirbenchError as error:
        if not contender.variant:
            raise
        # The extractor does not know by what name it was asked for.
        own, plugin = contender.variant, contender.plugin.name
        told = f"This is of its variant {own}: --set {own}.OPTION=VALUE sets an option of that one alone."
        raise type(error)(f"{own} (of {plugin}): {error.problem}", f"{error.remedy} {told}") from error


def _entry(text: str) -> tuple[str, Plugin, str]:
    """A variant's name, empty where it is none, the extractor, and an alias to stand beside its name."""
    name, equals, asked = (part.strip() for part in text.partition("="))
    if equals:
        plugin = registry.find("extractor", asked)
        _check_name(name, text)
        return name, plugin, ""
    plugin = registry.find("extractor", text)
    return "", plugin, text if text != plugin.name else next(iter(plugin.aliases), "")


def _check_name(name: str, text: str) -> None:
    fault = ""
    if not _FORM.fullmatch(name) or len(name) > LONGEST_NAME:
        fault = (
            f"A name has letters and digits, with single hyphens or underscores between them, at most "
            f"{LONGEST_NAME} characters"
        )
    elif name.casefold() in _taken():
        fault = "That name is taken"
    elif name in families():
        fault = "That name sets options of several extractors together"
    if fault:
        raise UsageError(
            f"{text!r} cannot stand among the extractors: {name!r} is no name for a variant.",
            f"{fault}. Say small=imagenet, for instance, and --set small.OPTION=VALUE.",
        )


def _taken() -> set[str]:
    names = (name for plugin in registry.all_installed() for name in plugin.names)
    return {*RESERVED_NAMES, *map(str.casefold, names)}


def _check_new(variant: str, plugin: Plugin, contenders: Sequence[Contender]) -> None:
    name = variant or plugin.name
    # Each has a folder of its name, and some systems do not tell capitals.
    if name.casefold() not in [contender.name.casefold() for contender in contenders]:
        return
    remedy = "Name it once in --extractors"
    if not variant:
        remedy += (
            f". To compare it with itself under other options, name a variant: --extractors "
            f"{name},small={name} --set small.OPTION=VALUE"
        )
    raise UsageError(f"The extractor {name!r} was named twice.", f"{remedy}.")
