"""`cbirbench plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cbirbench.commands.options import JsonOption, PluginKind
from cbirbench.commands.plugin_check import check_plugin
from cbirbench.commands.plugin_new import new_plugin
from cbirbench.commands.speaking import reported, say

if TYPE_CHECKING:
    from cbirbench.plugin_facts import Listed

plugins_app = typer.Typer(
    help="What is installed, and what it takes.", no_args_is_help=True, rich_markup_mode=None
)


@plugins_app.command("list")
def list_plugins(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Import each plugin, say what is wrong, and exit with 1 if anything is."
        ),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """List the installed plugins: kind, name, aliases, distribution, version.

    Imports none of them, unless --check asks for it. What is wrong with a broken one is said on standard
    error, and in the JSON beside it.
    """
    with reported():
        from cbirbench.plugin_facts import listing

        entries = listing(check=check)
        if json_:
            _print_json([_as_json(entry, check) for entry in entries])
        else:
            from cbirbench.commands.plugin_pages import print_list

            print_list(entries)
            for entry in entries:
                if entry.problem:
                    name = f"{entry.plugin.name} ({entry.plugin.distribution})"
                    say(f"Broken: {name}: {entry.problem}", err=True)
            typer.echo(
                "Options: cbirbench plugins show NAME; those of the run itself: show run, show relax.",
                err=True,
            )
        if check and any(entry.problem for entry in entries):
            raise typer.Exit(1)


@plugins_app.command("show")
def show_plugin(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A plugin or a family of them; or run, or relax.", show_default=False
        ),
    ] = "",
    kind: Annotated[
        PluginKind | None, typer.Option(help="Of several with that name, the one of this kind.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show what a plugin is and its options: what each takes, its default, unit and source.

    run and relax are the options of the run itself and of the explanations. The exit code is 1 where the
    plugin cannot be used.
    """
    with reported():
        from cbirbench.errors import UsageError
        from cbirbench.plugin_facts import called

        if not name:
            raise UsageError(
                "No plugin was named.",
                "Name one: cbirbench plugins show hog. `cbirbench plugins list` shows all; options of the "
                "run itself are those of run and relax.",
            )
        found = called(name, kind.value if kind else None)
        if json_:
            import dataclasses

            _print_json([dataclasses.asdict(facts) for facts in found])
        else:
            from cbirbench.commands.plugin_pages import print_page

            for index, facts in enumerate(found):
                if index:
                    typer.echo()
                print_page(facts)
                if facts.problem:
                    say(f"Broken: {facts.problem}", err=True)
        if any(facts.problem for facts in found):
            raise typer.Exit(1)


def _as_json(entry: Listed, check: bool) -> dict[str, object]:
    from cbirbench.plugin_facts import package_of

    plugin = entry.plugin
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "aliases": list(plugin.aliases),
        "distribution": plugin.distribution,
        "version": plugin.version,
        "summary": package_of(plugin).summary,
        "value": plugin.value,
        "problem": entry.problem,
        **({"interface_version": entry.interface_version} if check else {}),
    }


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


plugins_app.command("new")(new_plugin)
plugins_app.command("check")(check_plugin)
