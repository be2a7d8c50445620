"""Builds the site: `python docs/build.py [--out DIR]`. Any warning, dead link or missing page fails it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))

import built_html  # noqa: E402
import cli_page  # noqa: E402
import plugin_page  # noqa: E402
import rendering  # noqa: E402
import staging  # noqa: E402

from cbirbench.errors import CbirbenchError  # noqa: E402

USUAL = re.compile(r"Build started|Build finished in [\d.]+ ?\w+|No issues found|")


def main() -> int:
    """Build the site and say what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "site", help="folder, replaced (build/site)"
    )
    out = parser.parse_args().out
    a_site = (out / "search.json").is_file()
    if out.exists() and not a_site and not (out.is_dir() and not any(out.iterdir())):
        print(f"{out} holds something else than a site: give another --out", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        problems = build(Path(folder))
        if problems:
            print("\n".join(problems), "No site was made.", sep="\n", file=sys.stderr)
            return 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(folder) / "site", out)
    print(out / "index.html")
    return 0


def build(folder: Path) -> list[str]:
    """Build the site in ``folder/site``; gives what is wrong with it, a line each."""
    if importlib.util.find_spec("zensical") is None:
        return ["Zensical, which builds the site, is not installed: pip install -r docs/requirements.txt"]
    if problems := plugin_page.missing(ROOT):
        return problems
    try:
        generated = {staging.CLI: cli_page.page(), staging.CATALOGUE: plugin_page.page(ROOT)}
    except CbirbenchError as error:
        return [str(error)]
    site = staging.gather(ROOT, list(staging.navigation(staging.settings()["nav"])), generated)
    staging.write(site, folder / "pages")
    if site.problems:
        return site.problems
    shutil.copyfile(staging.HERE / "zensical.toml", folder / "zensical.toml")
    problems = zensical(folder)
    if not problems:
        problems = built_html.problems(folder / "site") + rendering.problems(ROOT, folder / "site")
    return problems


def zensical(folder: Path) -> list[str]:
    """Run Zensical on what is staged; whatever it says beyond the usual counts as a problem."""
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-m",
            "zensical",
            "build",
            "--strict",
            "--config-file",
            str(folder / "zensical.toml"),
        ],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    warnings, _, trace = said.partition("Traceback (most recent call last):")
    unusual = [line for line in warnings.splitlines() if not USUAL.fullmatch(line.strip())]
    return (
        unusual
        or trace.splitlines()
        or ([f"zensical ended with {done.returncode}"] if done.returncode else [])
    )


if __name__ == "__main__":
    sys.exit(main())
