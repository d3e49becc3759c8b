"""script/install on machines that have never seen ttyfleet, step by step."""

from __future__ import annotations

import re

import yaml

from .conftest import Story

MAP = "inventory/localhost/host_vars/localhost.yml"


def test_a_pipe_is_not_asked(story: Story) -> None:
    assert story.without_terminal.status == 1
    assert "error: there is no terminal to ask at: script/install --yes" in story.without_terminal


def test_another_system_is_refused(story: Story) -> None:
    assert story.on_another_system.status == 1
    assert "error: this machine runs Other 1: ttyfleet serves Debian" in story.on_another_system


def test_who_cannot_become_root_is_told_how(story: Story) -> None:
    assert story.without_sudo.status == 1
    assert "needs root, and sudo is not installed: run this as root" in story.without_sudo


def test_without_an_adapter_it_says_what_to_look_at(story: Story) -> None:
    assert story.without_adapters.status == 1
    assert "lsusb" in story.without_adapters
    assert f"no port to serve yet: plug in an adapter, or write a port into {MAP}" in (
        story.without_adapters
    )


def test_no_leaves_the_machine_as_it_was(story: Story) -> None:
    assert story.said_no.status == 1
    assert 'usb: {vendor: "067b", product: "2303", path: "1-1.1"}' in story.said_no
    assert "Nothing was changed on this machine." in story.said_no
    assert story.files_after_no == story.files_before


def test_one_command_serves_what_is_plugged_in(story: Story) -> None:
    assert story.fresh.status == 0, story.fresh.output
    assert re.search(
        "localhost +usb-serial-controller +10001 +listens, device is there", story.fresh.output
    )
    assert re.search("usb-serial-controller  nc [0-9.]+ 10001\n", story.fresh.output)
    assert "Not in the port map" not in story.fresh
    assert [port["name"] for port in yaml.safe_load(story.fresh_map)["serial_ports"]] == [
        "usb-serial-controller",
        "ft232r-usb-uart",
    ]
    assert story.fresh_echo == b"hello"


def test_again_offline_as_root_without_sudo_changes_nothing(story: Story) -> None:
    assert story.again.status == 0, story.again.output
    assert re.search("localhost +: ok=[0-9]+ +changed=0 ", story.again.output)
    assert story.files_after_again == story.files_before_again


def test_offline_with_the_packages_a_machine_is_provisioned_afresh(story: Story) -> None:
    assert story.offline.status == 0, story.offline.output
    assert re.search(r"core-switch +nc [0-9.]+ 10001\n", story.offline.output)
    assert story.offline_echoes == [b"hello", b"hello", b"hello"]


def test_a_new_adapter_goes_behind_what_the_user_wrote(story: Story) -> None:
    assert "name: core-switch    # rack 3" in story.edited_map
    assert story.map_after.startswith(story.edited_map)
    added = yaml.safe_load(story.map_after)["serial_ports"][2:]
    assert [(port["name"], port["listen"]) for port in added] == [("2341-0043", 10003)]
