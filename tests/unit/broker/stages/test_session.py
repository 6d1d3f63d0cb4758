"""What of an entry its laptops are told."""

from __future__ import annotations

import json

from percall import wire
from percall_broker import recipes
from percall_broker.model import entry_file
from percall_broker.model.records import Server
from percall_broker.stages.session import laptop_half


def test_a_laptop_is_told_the_probe_and_how_a_config_shows_that_it_means_the_server() -> None:
    entry = entry_file.read(recipes.text_of("hubspot"))
    told = laptop_half(Server("crm", 3, entry, "active", 1))
    assert (told.probe_tool, json.loads(told.probe_arguments)) == ("hubspot-get-user-details", {})
    assert told.launches == ("npm:@hubspot/mcp-server",)
    assert told.keys == ("PRIVATE_APP_ACCESS_TOKEN", "HUBSPOT_ACCESS_TOKEN")
    assert wire.decode(wire.ServerEntry, json.loads(json.dumps(wire.encode(told)))) == told


def test_an_entry_without_a_probe_says_so_by_nothing() -> None:
    told = laptop_half(Server("git", 1, entry_file.read(recipes.text_of("git")), "active", 0))
    assert (told.probe_tool, told.probe_arguments, told.keys) == ("", "", ())
