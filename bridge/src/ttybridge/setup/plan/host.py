"""The plan of one host: what each role must do there, and a line for each thing that differs.

A role says what it wants in `ROLE_wanted` in its vars/main.yml, a mapping with these keys:

- `packages`: names of Debian packages.
- `files`: see `ttybridge.setup.plan.files`; and `absent`: paths of files that must not be there.
  A file may have a `fault`, which verify.yml says of its difference as a sentence of its own, or be
  `quiet`: then verify.yml says nothing of it.
- `service`: the unit that the role runs, and `running`: whether it runs and starts at boot. A role
  without one says in `affects` what it reloads or triggers.
- `stale_effect` and `stale_words`: what to do, and to say, if it runs with older files.
- `ports`: the ports that it serves, as the role serial_ports returns them.
- `remove`: why the role takes its part off the host; "" if it stays. `places` are the files and
  folders that this may remove.
- `changes`: further changes, a line of the plan each, that the role makes by itself.
- `faults`: why the host cannot be served; then nothing is changed on any host.
- `notes`: what to know before the change; `pending`: what is still to be done by somebody, such as
  a reboot, which verify.yml takes for a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttybridge.model.check import check_ser2net, parse_portmap
from ttybridge.setup.inventory import check_listeners
from ttybridge.setup.plan import cuts
from ttybridge.setup.plan.files import Difference, differences, found, strongest
from ttybridge.setup.words import count

Files = Mapping[str, Mapping[str, str]]

# What is there if an earlier run set up an engine.
_OURS = {"ttybridge.service", "ser2net.service.d/ttyfleet.conf"}

# What the daemon of a role calls whoever it disconnects.
_CUTS: dict[str, Callable[[str, Sequence[Mapping[str, Any]], Mapping[str, Any]], list[str]]] = {
    "bridge": cuts.cut_by_bridge,
    "ser2net": lambda effect, ports, read: cuts.cut_by_ser2net(ports, read),
}


@dataclass
class Todo:
    """What a role has to do on a host. A role without anything to do is not entered.

    `effect` is restart, reload, trigger or "". `start` and `stop` say that the service must be
    started, or stopped, now and at every boot. `lines` is the plan for people; `differs` are words
    for each difference, for verify.yml, and `faults` whole sentences. `paths` is what is written.
    """

    packages: list[str] = field(default_factory=list)
    directories: list[Mapping[str, Any]] = field(default_factory=list)
    files: list[Mapping[str, Any]] = field(default_factory=list)
    links: list[Mapping[str, Any]] = field(default_factory=list)
    absent: list[Mapping[str, Any]] = field(default_factory=list)
    effect: str = ""
    start: bool = False
    stop: bool = False
    remove: str = ""
    cuts: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def plan(
    wanted: Mapping[str, Mapping[str, Any]],
    host: Mapping[str, Any],
    tags: Collection[str] = ("all",),
    skipped: Collection[str] = (),
) -> dict[str, Any]:
    """Return the plan of a host.

    `wanted` is what each role wants, in the order of the roles. `host` has `read`, the output of
    files/read_host.sh; `fault`, why it could not be read; `ports`, its ports as the role
    serial_ports returns them; `metrics`, its bridge_metrics; and `ser2net_version`. `tags` and
    `skipped` are those of the command line.

    The result has `todo`, for each role with something to do the fields of a `Todo`; `packages` and
    `paths`, all that is installed, and written or removed; `notes`, `pending` and `faults` of all
    roles, and in `pending` a clock that is wrong; `fault` and `metrics`, as given; `unfit`, why
    ttyfleet cannot serve the host at all; `refused`, why a run changes nothing anywhere; `engines`,
    those that the run looks at; `ports`, what a report says of each port; and `provisioned`,
    whether an earlier run set up an engine.
    """
    read = host["read"]
    unfit = _unfit(host) if read else []
    roles = {name: role for name, role in wanted.items() if _is_wanted(name, tags, skipped)}
    files = found(read) if read else {}
    todo = {name: _todo(name, read, files, role) for name, role in roles.items()}
    faults = _all(roles, "faults")
    return {
        "todo": {name: vars(one) for name, one in todo.items() if one.lines},
        "packages": sorted({name for one in todo.values() for name in one.packages}),
        "metrics": host["metrics"],
        "paths": sorted(path for one in todo.values() for path in one.paths),
        "notes": _all(roles, "notes"),
        "pending": [*_clock(read), *_all(roles, "pending")],
        "fault": host["fault"],
        "unfit": unfit,
        "refused": unfit or [*_taken(host), *faults, *_lost(read, todo.values())],
        "faults": faults,
        "engines": [name for name in ("bridge", "ser2net") if name in roles],
        "ports": [_about(port) for port in host["ports"]],
        "provisioned": not host["ports"] or not read or bool(_OURS & {*read["units"]}),
    }


def _is_wanted(role: str, tags: Collection[str], skipped: Collection[str]) -> bool:
    chosen = bool({"all", "tagged", role} & {*tags})
    return chosen and not {"all", "tagged", role} & {*skipped}


def _unfit(host: Mapping[str, Any]) -> list[str]:
    if host["read"]["fault"]:
        return [host["read"]["fault"]]
    ports = parse_portmap([port["entry"] for port in host["ports"]])
    return [str(fault) for fault in check_ser2net(ports, host["ser2net_version"])]


def _taken(host: Mapping[str, Any]) -> list[str]:
    read = host["read"]
    return check_listeners(host["ports"], host["metrics"], read) if read else []


def _lost(read: Mapping[str, Any], todo: Collection[Todo]) -> list[str]:
    """Why the host would lose what a run changes; a host that is as it should be loses nothing."""
    changes = any(one.lines for one in todo)
    return [str(read["not_kept"])] if changes and read["not_kept"] else []


def _clock(read: Mapping[str, Any]) -> list[str]:
    """What is wrong with the host's clock; a Pi has a wrong one until NTP answers."""
    ahead = int(read["clock"]) if read else 0
    if not ahead:
        return []
    minutes = abs(ahead) // 60
    how = count(minutes // 1440, "day") if minutes >= 1440 else f"{minutes} min"
    where = "ahead of" if ahead > 0 else "behind"
    return [
        f"its clock is {how} {where} the one here, so apt and TLS fail: a run that changes the "
        "host waits for NTP first; timedatectl there says more"
    ]


def _all(roles: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    return [line for role in roles.values() for line in role.get(key, [])]


def _about(port: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(port[key]) for key in ("name", "endpoint", "about", "engine", "path", "open")}


def _todo(name: str, read: Mapping[str, Any], files: Files, wanted: Mapping[str, Any]) -> Todo:
    todo = Todo(remove=str(wanted.get("remove", "")))
    for line in wanted.get("changes", []):
        todo.lines.append(str(line))
        todo.differs.append(str(line)[2:])
    if todo.remove:
        todo.lines.append(f"- {todo.remove}")
        todo.differs.append(todo.remove)
        todo.paths += _below(wanted.get("places", []), files)
    _add_packages(todo, read, wanted)
    gone = [{"path": path, "kind": "absent"} for path in wanted.get("absent", [])]
    differing = differences([*wanted.get("files", []), *gone], files)
    _add_files(todo, differing)
    _add_effect(todo, read, wanted, {one.effect for one in differing})
    _add_service(todo, read, wanted)
    effect = "stop" if todo.stop or todo.remove else todo.effect
    if effect and name in _CUTS:
        todo.cuts = _CUTS[name](effect, wanted.get("ports", []), read)
        todo.lines += [f"! disconnects {text}" for text in todo.cuts]
    return todo


def _below(places: Sequence[str], files: Files) -> list[str]:
    """The files, not folders, that a host has in some places."""
    return [
        path
        for path, file in files.items()
        if file["kind"] != "directory" and any(f"{path}/".startswith(f"{one}/") for one in places)
    ]


def _add_packages(todo: Todo, read: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    todo.packages = [name for name in wanted.get("packages", []) if name not in read["packages"]]
    todo.lines += [f"+ package {name}" for name in todo.packages]
    todo.differs += [f"the package {name}, which is not installed" for name in todo.packages]


def _add_files(todo: Todo, differing: Sequence[Difference]) -> None:
    lists: dict[str, list[Any]] = {
        "directory": todo.directories,
        "file": todo.files,
        "link": todo.links,
        "absent": todo.absent,
    }
    for one in differing:
        kind = str(one.item.get("kind", "file"))
        lists[kind].append(one.item)
        todo.lines.append(one.line)
        if one.item.get("fault"):
            todo.faults.append(str(one.item["fault"]))
        elif not one.item.get("quiet"):
            todo.differs.append(one.words)
        # A folder that is there keeps its content.
        if kind != "directory" or one.sign == "+":
            todo.paths.append(one.path)


def _add_effect(
    todo: Todo, read: Mapping[str, Any], wanted: Mapping[str, Any], effects: set[str]
) -> None:
    """Say how the changes take effect, also those that an interrupted run left without it."""
    if not wanted.get("running", True):
        return
    pending = {str(path) for path in read["unfinished"]}
    left = {str(one.get("effect", "")) for one in wanted.get("files", []) if one["path"] in pending}
    if strongest(left) and not strongest(effects):
        todo.lines.append("! finishes what an interrupted run began")
        todo.differs.append("what an interrupted run began")
    if wanted.get("service") in read["stale"]:
        words = str(wanted.get("stale_words", ""))
        # A file that differs, and so is newer than the daemon, says enough.
        if not words and not strongest(effects):
            words = f"{wanted['service']} runs with older files (restart pending)"
        effects = {*effects, str(wanted.get("stale_effect", "restart"))}
        if words:
            todo.lines.append(f"~ {words}")
            todo.differs.append(words)
    todo.effect = strongest(effects | left)


def _add_service(todo: Todo, read: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Say whether the service must be started or stopped. verify.yml reads its state by itself."""
    service = str(wanted.get("service", ""))
    if not service:
        todo.lines += [f"! {todo.effect} {wanted.get('affects')}"] if todo.effect else []
        return
    if todo.remove:
        return
    unit = read["services"].get(service, {})
    runs, starts = unit.get("ActiveState") == "active", unit.get("UnitFileState") == "enabled"
    if not wanted.get("running"):
        todo.stop = runs or starts
        if todo.stop:
            todo.lines.append(f"! stop {service}")
            todo.differs.append(f"{service}, which has no ports")
        return
    todo.start = not (runs and starts)
    if not runs:
        todo.lines.append(f"! start {service}")
    elif todo.effect:
        todo.lines.append(f"! {todo.effect} {service}")
    if runs and not starts:
        todo.lines.append(f"! enable {service}")
