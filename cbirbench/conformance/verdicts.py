"""What a check says: passed, failed or skipped, with what was found and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cbirbench.conformance.states import restored
from cbirbench.errors import CbirbenchError
from cbirbench.extraction import REPORT, raised_at

Outcome = Literal["passed", "failed", "skipped"]

CLASH = "uninstall one of them"
"""How `cbirbench.registry` ends what it says of two packages with one name."""


class Check(Protocol):
    """One question about a plugin. It returns what it found, or raises `Fault` or `Beside`."""

    __name__: str

    def __call__(self, subject: Any, /) -> str:
        """Ask it."""
        ...


@dataclass(frozen=True)
class Verdict:
    """The answer to one check.

    Attributes:
        name: The check, ``batch-size``.
        outcome: ``passed``, ``failed``, or ``skipped`` where it does not apply.
        found: What was found, with numbers.
        remedy: What can be done; empty unless it failed, or lacks data.
    """

    name: str
    outcome: Outcome
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        told = f"{self.name} {self.outcome}: {self.found}"
        return f"{told}\nWhat to do: {self.remedy}" if self.remedy else told


class Fault(Exception):  # noqa: N818 - what a check comes to, no error of ours
    """The plugin does what its interface forbids.

    Args:
        found: What it does, with numbers.
        remedy: What its author can do.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found, remedy)
        self.found = found
        self.remedy = remedy


class Beside(Exception):  # noqa: N818
    """A check does not apply to this plugin, or not here.

    Args:
        reason: Why.
        remedy: What can be done about it; empty where nothing need be.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def demand(holds: bool, found: str, remedy: str) -> None:
    """Raise `Fault` unless something holds."""
    if not holds:
        raise Fault(found, remedy)


def judged(check: Check, subject: Any) -> Verdict:
    """Run one check; whatever the plugin raises within is a verdict, so that the next check runs."""
    name = check.__name__.replace("_", "-")
    try:
        with restored():  # what a plugin does to global state must not reach the next check
            return Verdict(name, "passed", check(subject))
    except Beside as reason:
        return Verdict(name, "skipped", str(reason), reason.remedy)
    except Fault as fault:
        return Verdict(name, "failed", fault.found, fault.remedy)
    except CbirbenchError as error:
        return told(name, error)
    except (Exception, SystemExit) as error:
        return Verdict(name, "failed", f"{_described(error)}.", "Mend it there, or what it was given.")


def told(name: str, error: CbirbenchError) -> Verdict:
    """The verdict that one of our own errors comes to: the plugin's words, and the place it came from."""
    place = "" if error.__cause__ is None else raised_at(error.__cause__)
    at = f" (at {place})" if place and place not in error.problem else ""
    # Advice for users of a plugin is none for its author.
    meant_for_users = error.remedy == REPORT or error.remedy.startswith("Reinstall or update")
    remedy = "Mend it in the plugin." if meant_for_users or not error.remedy else error.remedy
    problem = error.problem.rstrip(".")
    if problem.endswith(CLASH):  # two packages, and nothing in either is to be mended
        problem, remedy = problem.removesuffix(CLASH).rstrip(": "), f"{CLASH.capitalize()}."
    return Verdict(name, "failed", f"{problem}{at}.", remedy)


def calling(step: str, call: Callable[[], Any]) -> Any:
    """Call into a plugin; what it raises is a `Fault` that says which step raised what.

    Raises:
        Fault: It raised anything but an error of cbirbench's.
    """
    try:
        return call()
    except (CbirbenchError, Fault, Beside):
        raise
    except (Exception, SystemExit) as error:
        raise Fault(
            f"{step} raised {_described(error)}.", "Mend it in the plugin: this call keeps to the interface."
        ) from error


def _described(error: BaseException) -> str:
    place = raised_at(error)
    text = f"{type(error).__name__}: {error}".rstrip(": .")
    return f"{text} (at {place})" if place else text
