"""All hosts of an inventory together: every fault in one message, before anything is changed.

Everything here takes time in proportion to the number of hosts.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttybridge.model.check import Fault
from ttybridge.model.values import label, shown
from ttybridge.setup.inventory import VARIABLES, Examined, examine_host
from ttybridge.setup.inventory_files import GROUP_VARS, HOST_VARS, InventoryFiles, read, shown_path

# Where the playbooks are, and those of the collection.
PLAYBOOKS = Path(__file__).resolve().parents[4]

# The tags of the playbooks, and those that Ansible knows itself.
TAGS = ("uart", "udev", "firewall", "ser2net", "bridge", "people", "announce", "pull")
_TAGS_OF_ANSIBLE = ("all", "always", "never", "tagged", "untagged")

# Faults and notes of one host, or of one file, that are printed.
MOST = 50

# Connections for which ansible_host is an address that can be reached.
_SSH = ("", "ssh", "smart", "paramiko", "paramiko_ssh", "libssh")
# What makes one address mean two hosts: a jump host, for example.
_WAYS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")


@dataclass(frozen=True)
class Run:
    """What is known of a run of Ansible: Ansible's magic variables."""

    sources: Sequence[str] = ()
    playbooks: str = ""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Sequence[str] = ()
    skipped: Sequence[str] = ()
    limit: str = ""


@dataclass
class Report:
    """What was found: lines to print, and how many there are of what."""

    hosts: int = 0
    ports: int = 0
    faults: int = 0
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The message: faults, or else how much was checked and what is worth a note."""
        if self.faults:
            head = f"{_counted(self.faults, 'fault')} in the port maps."
            return "\n".join([head, "Nothing was changed on any host.", "", *self.lines, ""])
        head = f"{_counted(self.hosts, 'host')}, {_counted(self.ports, 'port')}: no fault."
        return "\n".join([head, *self.notes])

    def add(self, where: str, faults: Sequence[Fault]) -> None:
        """Add the faults of a host or of a file; the message has `MOST` of them."""
        self.faults += len(faults)
        self.lines += _most(where, "fault", [str(fault) for fault in faults])


def check_fleet(
    hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], run: Run | None = None
) -> Report:
    """Check the port maps and variables of `hosts`, and the files that they come from.

    `hostvars` are Ansible's. Of a host that is not in `hosts` only the name matters: `--limit` may
    have left it out.
    """
    run = run or Run()
    files = InventoryFiles(run.sources, run.playbooks)
    report = Report(hosts=len(hosts))
    report.add("", list(_unknown_tags(run)))
    for fault in _of_no_host(files, hosts, hostvars, run):
        report.add(fault.place, [fault])
    addresses: dict[tuple[str, ...], str] = {}
    checked = set(files.inventories)
    for file in files.inventories:
        report.add(shown_path(file), files.twice(file))
    for host in hosts:
        variables = hostvars[host]
        groups = ["all", *(variables.get("group_names") or ())]
        for file, faults in _files_of(files, host, groups, checked):
            report.add(shown_path(file), faults)
        looked = "" if "serial_ports" in variables else _where_looked(files, host, groups)
        found = _examined(host, variables, looked)
        faults = [*found.faults, *_two_places(files, host, groups)]
        report.add(host, [*faults, *_same_address(host, variables, addresses)])
        report.ports += found.ports
        report.notes += _most(host, "note", [f"Note: {note}" for note in found.notes])
    return report


def unreadable(run: Run) -> list[str]:
    """Return a line for each file of an inventory that is no YAML.

    A run for one host (`--limit`) reads no file of the other hosts: a host that pulls goes on while
    there is a fault in the file of another one.
    """
    hosts, groups = frozenset(run.groups.get("all", ())), frozenset(run.groups)
    files = InventoryFiles(run.sources, run.playbooks)
    if run.limit in hosts:
        own = frozenset(name for name, members in run.groups.items() if run.limit in members)
        found = files.broken(frozenset({run.limit}), own, others=False)
    else:
        found = files.broken(hosts, groups)
    return [str(fault) for fault in found]


def no_servers(groups: Mapping[str, Sequence[str]], sources: Sequence[str]) -> str:
    """Return what to do about an inventory without a host in the group serial_servers."""
    if "serial_servers" in groups:
        return "The group is there, but empty: name your Pis in it."
    named = [name for name in groups if name not in ("all", "ungrouped") and groups[name]]
    if named:
        near = difflib.get_close_matches("serial_servers", named[:1000], 1)
        cure = f"Rename {label(near[0])}" if near else "Rename one of them, or add this one"
        first = ", ".join(map(label, [*near, *(one for one in named if one not in near)][:20]))
        return f"The groups that have hosts are: {first}. {cure}."
    if groups.get("all"):
        return "Its hosts are in no group: put your Pis in this one."
    looked = ", ".join(shown_path(Path(source)) for source in sources)
    read = f"It has no host at all; Ansible read {looked}." if looked else "It has no host at all."
    return (
        f"{read} Copy inventory/example to inventory/production and name your Pis in its "
        "hosts.yml, or name another inventory with -i."
    )


def _examined(host: str, variables: Mapping[str, Any], where_looked: str) -> Examined:
    """Examine a host, also one with a variable that Ansible cannot evaluate."""
    try:
        return examine_host(host, variables, where_looked)
    except Exception:
        broken = list(_not_evaluated(host, variables))
        if not broken:
            raise
        return Examined(broken, [], 0)


def _not_evaluated(host: str, variables: Mapping[str, Any]) -> Iterator[Fault]:
    """A fault for each variable with Jinja that Ansible cannot evaluate."""
    for name in VARIABLES:
        if name in variables:
            try:
                shown(variables[name])
            except Exception as error:
                # Ansible's own classes differ from version to version.
                problem = str(error).partition("\n")[0]
                yield Fault(host, name, f"{problem}: correct what is between {{{{ and }}}}")


def _unknown_tags(run: Run) -> Iterator[Fault]:
    """A fault for each tag on the command line that none of our tasks has.

    In a playbook of somebody else, which imports ours, there are other tags. Molecule skips tags of
    its own in every playbook, so there only a misspelt tag is a fault.
    """
    if not run.playbooks or not Path(run.playbooks).resolve().is_relative_to(PLAYBOOKS):
        return
    for option, tags in (("--tags", run.tags), ("--skip-tags", run.skipped)):
        for tag in tags:
            if tag not in TAGS and tag not in _TAGS_OF_ANSIBLE:
                near = difflib.get_close_matches(tag, TAGS, 1)
                if option == "--skip-tags" and not near:
                    continue
                hint = f"did you mean {near[0]}?" if near else f"write {', '.join(TAGS)}"
                yield Fault(option, label(tag), f"no task has this tag; {hint}")


def _of_no_host(
    files: InventoryFiles, hosts: Sequence[str], all_hosts: Iterable[str], run: Run
) -> Iterator[Fault]:
    """Files and folders that Ansible ignores, because they belong to no host and no group."""
    for folder, meant in files.misnamed():
        problem = f"Ansible does not read a folder of this name: rename it to {meant}"
        yield Fault(shown_path(folder), "folder", problem)
    if not files.is_static:
        return
    if not run.groups:
        return
    # Ansible has a localhost, even if no inventory names it.
    known = frozenset(all_hosts) | {"localhost"}
    names = {HOST_VARS: known, GROUP_VARS: frozenset(run.groups) | {"all"}}
    for file, kind in files.beside(names[HOST_VARS], names[GROUP_VARS]):
        yield Fault(shown_path(file), "file", f"Ansible does not read it here: move it to {kind}/")
    strangers = list(files.strangers(names[HOST_VARS], names[GROUP_VARS]))
    if not strangers:
        return
    near = {kind: _Near(names[kind]) for kind in names}
    servers = frozenset(run.groups.get("serial_servers", hosts))
    only_servers = known - {"localhost"} <= servers
    for kind, name, path in strangers:
        meant = near[kind].to(name)
        if only_servers or _is_ours(path) or meant in servers:
            yield Fault(shown_path(path), "file", _stranger(kind, name, names, meant))


def _stranger(kind: str, name: str, names: Mapping[str, frozenset[str]], meant: str) -> str:
    """What to do about something in host_vars or group_vars that belongs to none."""
    what, other = ("host", GROUP_VARS) if kind == HOST_VARS else ("group", HOST_VARS)
    problem = f"the inventory has no {what} {label(name)}, so Ansible ignores this"
    if name in names[other]:
        return f"{problem}: move it to {other}/"
    if meant:
        return f"{problem}; did you mean {label(meant)}?"
    return f"{problem}: name the {what} in the inventory, or delete this"


class _Near:
    """Finds the name that a misspelt one is meant to be: one letter is more, less, or another.

    With another number it is another name. A search takes the same time for any number of names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {form: name for name in names for form in self._forms(name)}

    def to(self, written: str) -> str:
        """The name that is meant, or "" if none is near."""
        return next((self._names[one] for one in self._forms(written) if one in self._names), "")

    @staticmethod
    def _forms(name: str) -> list[str]:
        """A name without its signs, and without one more letter. Near names have one in common."""
        plain = "".join(char for char in name.lower() if char.isalnum())
        letters = (at for at, char in enumerate(plain) if char.isalpha())
        without = [plain[:at] + plain[at + 1 :] for at in letters]
        # A host may be named with its domain in one place, and without it in another one.
        first, dot, _ = name.lower().partition(".")
        domain = "".join(char for char in first if char.isalnum())
        return [plain, *without, *([domain] if dot and not domain.isdecimal() else [])]


def _is_ours(path: Path) -> bool:
    """Whether something holds variables of ours."""
    files = [path] if path.is_file() else list(path.glob("**/*"))
    return any(read(file).keys.keys() & set(VARIABLES) for file in files if file.is_file())


def _files_of(
    files: InventoryFiles, host: str, groups: Iterable[str], checked: set[Path]
) -> Iterator[tuple[Path, list[Fault]]]:
    """Each file of a host that has faults, with them, unless it is `checked`; then it is."""
    found = [files.of_host(host), *(files.of_group(group) for group in groups)]
    for one in found:
        for file in one.files:
            if file not in checked:
                checked.add(file)
                yield file, list(read(file).twice)
        for file, instead in one.ignored:
            if file not in checked:
                checked.add(file)
                problem = f"Ansible reads {shown_path(instead)} and ignores this: put it in there"
                yield file, [Fault(shown_path(file), "file", problem)]


def _two_places(files: InventoryFiles, host: str, groups: Iterable[str]) -> Iterator[Fault]:
    """A fault if a host has two port maps, of which Ansible takes one. An empty one is no loss."""
    places = [one for one in files.places("serial_ports", host, groups) if not one.key.empty]
    if len(places) > 1:
        where = " and in ".join(map(str, places))
        problem = f"written in {where}, and Ansible uses only one of them: keep one"
        yield Fault(host, "serial_ports", problem)


def _where_looked(files: InventoryFiles, host: str, groups: Iterable[str]) -> str:
    """Where Ansible looks for a port map of a host, for the fault that it has none."""
    wanted = files.wanted(host)
    if not wanted:
        return ""
    there = list(files.of_host(host).files)
    of_groups = [file for group in groups for file in files.of_group(group).files]
    named = ", ".join(map(shown_path, [*(there or [wanted]), *of_groups]))
    none = "" if there else " (there is no such file)"
    first = shown_path(there[0] if there else wanted)
    return f"not in {named.replace(first, first + none, 1)}"


def _same_address(
    host: str, variables: Mapping[str, Any], addresses: dict[tuple[str, ...], str]
) -> Iterator[Fault]:
    """A fault if an earlier host has the address of this one; notes the address."""
    try:
        connection, address, port, *ways = _address(host, variables)
    except Exception:
        # A template of these may need what only a play has. Ansible says so when it connects.
        return
    if connection.rpartition(".")[2] not in _SSH:
        return
    other = addresses.setdefault((_plain_address(address), port, *ways), host)
    if other != host:
        at = f"{shown(address)}, port {port}," if port != "22" else shown(address)
        problem = f"{at} is also the address of {label(other)}: write each host's own address"
        yield Fault(host, "ansible_host", problem)


def _address(host: str, variables: Mapping[str, Any]) -> list[str]:
    """How Ansible connects to a host: the connection, the address, the port, and its `_WAYS`."""

    def first(default: str, *names: str) -> str:
        written = (variables[name] for name in names if name in variables)
        return next((str(value) for value in written if value), default)

    return [
        first("", "ansible_connection"),
        first(host, "ansible_host", "ansible_ssh_host"),
        first("22", "ansible_port", "ansible_ssh_port"),
        *(first("", way) for way in _WAYS),
    ]


def _plain_address(written: str) -> str:
    try:
        return str(ipaddress.ip_address(written.strip("[]")))
    except ValueError:
        return written.lower().rstrip(".")


def _most(where: str, what: str, lines: list[str]) -> list[str]:
    """At most `MOST` lines, and how many more there are."""
    more = len(lines) - MOST
    if more <= 0:
        return lines
    return [*lines[:MOST], f"{where}: and {_counted(more, f'more {what}')}"]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
