"""``edge-harness devices``."""

from __future__ import annotations

import click

from edge_harness.commands import common


@click.command()
@common.device_option(
    "Board to show in full: a name, an alias, a comma list, a glob or 'all'; may be repeated. "
    "Default: a table of all."
)
@common.json_option()
def devices(devices: tuple[str, ...], as_json: bool) -> None:
    """List the device profiles, or show some in full."""
    from edge_harness.commands.devices_table import as_dict, print_one, print_table

    if not devices:
        registry = common.registry()
        if as_json:
            profiles, _broken = registry.working()
            common.show_json([as_dict(profile) for profile in profiles])
        else:
            print_table(registry, common.console())
        return
    boards = common.selected(devices)
    if as_json:
        documents = [as_dict(profile) for profile in boards.profiles]
        common.show_json(documents if boards.several else documents[0])
        return
    for number, profile in enumerate(boards.profiles):
        if number:
            click.echo()
        print_one(profile, common.console())
