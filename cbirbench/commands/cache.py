"""`cbirbench cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from cbirbench.commands.options import names
from cbirbench.commands.speaking import reported
from cbirbench.errors import UsageError


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the entries.")] = False,
    kinds: Annotated[
        str,
        typer.Option(help="Only these kinds, comma-separated, as `cbirbench cache` shows them."),
    ] = "",
) -> None:
    """Show what the cache holds, or clear it."""
    with reported():
        from cbirbench.store import Store, cache_folder

        store = Store(cache_folder())
        if kinds and not clear:
            raise UsageError("--kinds goes with --clear.", "Give --clear too, or leave --kinds out.")
        shown = store.clear(names(kinds)) if clear else store.usage()
        typer.echo(f"{'Cleared from' if clear else 'Cache in'} {store.folder}")
        for usage in shown:
            typer.echo(f"  {usage.kind:<12}{usage.entries:>8} files {usage.size_bytes / 2**20:>10.1f} MiB")
