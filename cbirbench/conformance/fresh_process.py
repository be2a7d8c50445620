"""What a fresh Python does with a plugin: it imports its module under watch, or gives its fingerprint.

``python -m cbirbench.conformance.fresh_process`` reads what to do from standard input and prints one line of
JSON after `MARK`. Nothing but the standard library is imported at its top, and numpy before a plugin, so that
what else importing it loads is the plugin's doing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from functools import cache
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

MARK = "CBIRBENCH-CONFORMANCE "

SECONDS = 120
"""How long an import may take; importing torch takes a few."""

SECONDS_TO_MAKE = 900
"""How long making a plugin may take as well: some read gigabytes of weights."""


def imported(module: str) -> dict[str, Any]:
    """What a fresh Python finds when it imports a module.

    Returns:
        ``loaded``, the packages that importing it loads; ``tried``, the addresses that it tried to reach;
        ``changed``, the global state that it changes; ``seconds``; ``failure``, what it raised.

    Raises:
        ChildProcessError: It ended without an answer; the message holds what it said last.
        TimeoutError: It did not end within `SECONDS`.
    """
    return _ask({"module": module}, SECONDS)


def fingerprint_there(make: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint of an extractor that is made in a fresh Python, whose texts hash otherwise.

    Args:
        make: Its ``plugin``, its ``options`` and the user's ``assignments``.

    Returns:
        ``fingerprint``, or ``failure``.

    Raises:
        ChildProcessError: It ended without an answer; the message holds what it said last.
        TimeoutError: It did not end within `SECONDS_TO_MAKE`.
    """
    return _ask({"make": make}, SECONDS_TO_MAKE)


def _ask(request: dict[str, Any], seconds: float) -> dict[str, Any]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    answer: dict[str, Any] = json.loads(_answer(json.dumps(request), paths, seconds))
    return answer


@cache
def _answer(request: str, paths: str, seconds: float) -> str:
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "4711"}
    # Without -P the current folder would come first, and a file there hide a module.
    command = [sys.executable, "-P", "-m", "cbirbench.conformance.fresh_process"]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=request,
            capture_output=True,
            text=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"it did not end within {seconds:g} s") from error
    answers = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not answers:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ChildProcessError(said)
    return answers[-1].removeprefix(MARK)


def _import_watched(module: str) -> dict[str, Any]:
    """Import a module where every way into the network raises; say what was tried and what was loaded."""
    tried: list[str] = []

    def refused(*arguments: Any, **_: Any) -> NoReturn:
        address = next((part for part in arguments if isinstance(part, str | tuple)), "")
        tried.append(str(address))
        raise OSError("no network while a plugin is imported")

    class NoSocket(socket.socket):
        connect = connect_ex = sendto = refused

    blocked = {
        "socket": NoSocket,
        **dict.fromkeys(("create_connection", "getaddrinfo", "gethostbyname", "gethostbyname_ex"), refused),
    }
    before = {name: getattr(socket, name) for name in blocked}
    for name, value in blocked.items():
        setattr(socket, name, value)
    state = _States()
    start = time.perf_counter()
    failure = ""
    try:
        importlib.import_module(module)
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    for name, value in before.items():
        setattr(socket, name, value)
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    return {
        "tried": tried,
        "loaded": loaded,
        "changed": state.changed(),
        "seconds": seconds,
        "failure": failure,
    }


class _States(importlib.abc.MetaPathFinder):
    """Global state as it is now, and torch's as it is when torch has just been imported."""

    def __init__(self) -> None:
        from cbirbench.conformance import states

        self.states = states
        self.before = states.states()
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Find torch as Python does, and look at its state once it is imported."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec else None
        if loader is not None:
            execute = loader.exec_module

            def executed(module: Any) -> None:
                execute(module)
                self.before = {**self.states.states(), **self.before}

            loader.exec_module = executed
        return spec

    def changed(self) -> list[str]:
        """What of it is no longer as it was."""
        return list(self.states.changed(self.before))


def _fingerprint(given: dict[str, Any]) -> dict[str, Any]:
    """Make an extractor as another process did, and give its fingerprint.

    Args:
        given: See `fingerprint_there`.
    """
    from cbirbench import registry
    from cbirbench.conformance.declarations import fingerprint_of
    from cbirbench.conformance.subjects import Subject
    from cbirbench.settings import parse_assignments

    try:
        plugin = registry.Plugin(**{**given["plugin"], "aliases": tuple(given["plugin"]["aliases"])})
        loaded = registry.load(plugin)
        options = loaded.options_type.model_validate(given["options"])
        subject = Subject(plugin, loaded, options, parse_assignments(given["assignments"]))
        return {"fingerprint": fingerprint_of(subject.make(), subject)}
    except (Exception, SystemExit) as error:
        return {"failure": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    found = _fingerprint(request["make"]) if "make" in request else _import_watched(request["module"])
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
