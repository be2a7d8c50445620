"""What a fresh Python does with a plugin: it imports its module under watch, and gives its fingerprint.

``python -m cbirbench.conformance.fresh_process`` reads what to do from standard input and prints one line of
JSON after `MARK`. Nothing but the standard library is imported at its top, so that what importing a plugin
loads is the plugin's doing.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from functools import cache
from typing import Any, NoReturn

MARK = "CBIRBENCH-CONFORMANCE "

SECONDS = 120
"""How long a fresh Python may take; importing torch takes a few."""


def ask(module: str, make: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a fresh Python, whose texts hash otherwise, finds when it imports a module.

    Args:
        module: The module.
        make: What of it to make then, to give its fingerprint: see `_fingerprint`.

    Returns:
        ``loaded``, the packages that importing it loads; ``tried``, the addresses that it tried to reach;
        ``seconds``; ``failure``, what it raised; and, where something was to be made, ``fingerprint``, or
        ``fingerprint_failure``.

    Raises:
        ChildProcessError: It ended without an answer; the message holds what it said last.
        TimeoutError: It did not end.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    answer: dict[str, Any] = json.loads(_answer(json.dumps({"module": module, "make": make}), paths))
    return answer


@cache
def _answer(request: str, paths: str) -> str:
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "4711"}
    command = [sys.executable, "-m", "cbirbench.conformance.fresh_process"]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=request,
            capture_output=True,
            text=True,
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"a fresh Python did not end within {SECONDS} s") from error
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
    return {"tried": tried, "loaded": loaded, "seconds": seconds, "failure": failure}


def _fingerprint(given: dict[str, Any]) -> dict[str, Any]:
    """Make an extractor as another process did, and give its fingerprint.

    Args:
        given: Its ``plugin``, its ``options`` and the user's ``assignments``.
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
    except Exception as error:
        return {"fingerprint_failure": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    found = _import_watched(request["module"])
    if request["make"] and not found["failure"]:
        found |= _fingerprint(request["make"])
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
