"""How long `cbirbench plugins list` takes, as a whole process, with many plugins installed.

It makes distributions in a temporary folder as pip would leave them: a .dist-info folder with entry points,
with metadata as long as a README makes it, and a module that ends the process should anybody import it. They
come on top of what is installed already. Each command is timed as a user meets it, Python's start included.

    python benchmarks/plugin_listing.py
    python benchmarks/plugin_listing.py --plugins 500
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions, version
from pathlib import Path

TARGET_S = 0.5
"""With 50 plugins, for the table."""

GROUPS = ("extractors", "augmentations", "metrics", "benchmarks")

COMMANDS = {
    "plugins list": ["plugins", "list"],
    "plugins list --json": ["plugins", "list", "--json"],
    "--version": ["--version"],
}

README = "\n".join(
    f"{line}. What this extractor does, what it was trained on and how to cite it." for line in range(100)
)


def install(count: int, site: Path) -> None:
    """Write `count` distributions of one plugin each, the kinds taking turns."""
    for index in range(count):
        name = f"listed-{index}"
        info = site / f"listed_{index}-1.0.dist-info"
        info.mkdir(parents=True)
        headers = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nSummary: Plugin {index} of many\n"
        (info / "METADATA").write_text(f"{headers}License-Expression: MIT\n\n{README}\n")
        group = GROUPS[index % len(GROUPS)]
        (info / "entry_points.txt").write_text(f"[cbirbench.{group}]\n{name} = listed_{index}:Listed\n")
        (info / "RECORD").write_text("")
        (site / f"listed_{index}.py").write_text("raise SystemExit('a plugin was imported')\n")


def seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def slowest_imports(environment: dict[str, str], most: int = 8) -> list[tuple[int, str]]:
    """The packages that take longest to import for the list: own time of their modules summed, in us."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-c",
        "from cbirbench.cli import app; app()",
        "plugins",
        "list",
    ]
    trace = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr
    found: dict[str, int] = {}
    for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", trace):
        package = name.partition(".")[0]
        found[package] = found.get(package, 0) + int(own)
    return sorted(((time_us, package) for package, time_us in found.items()), reverse=True)[:most]


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description="Time of `cbirbench plugins list`.")
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        install(arguments.plugins, site)
        environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120"}
        start = [sys.executable, "-c", "from cbirbench.cli import app; app()"]
        listed = json.loads(
            subprocess.run(
                [*start, "plugins", "list", "--json"], check=True, capture_output=True, env=environment
            ).stdout
        )
        assert sum(entry["distribution"].startswith("listed-") for entry in listed) == arguments.plugins
        before = os.getloadavg()
        times: dict[str, list[float]] = {what: [] for what in COMMANDS}
        for _ in range(arguments.repeats):
            for what, command in COMMANDS.items():
                times[what].append(seconds([*start, *command], environment))
        after = os.getloadavg()
        imports = slowest_imports(environment)
    print(f"{len(list(distributions()))} other distributions, {len(listed)} plugins in all.\n")
    print("| command | s, median (lowest to highest) |\n|---|---|")
    for what, measured in times.items():
        middle, low, high = statistics.median(measured), min(measured), max(measured)
        print(f"| `cbirbench {what}` | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    print(
        "\nImports that take longest, ms: "
        + ", ".join(f"{name} {us / 1000:.0f}" for us, name in imports)
        + "."
    )
    print(
        f"\n{processor()}, {os.cpu_count()} cores; load before {before[0]:.2f}, after {after[0]:.2f}. "
        f"Python {platform.python_version()}, typer {version('typer')}, pydantic {version('pydantic')}, "
        f"rich {version('rich')}, {platform.system()}."
    )
    met = statistics.median(times["plugins list"]) < TARGET_S
    print("Met." if met else f"Missed: `plugins list` is to take less than {TARGET_S:g} s.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
