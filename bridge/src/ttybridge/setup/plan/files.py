"""Compares the files that a role wants with those that a host has.

A wanted file is a mapping, as a role writes it in its vars/main.yml: `path`; `kind`, which is file
(the default), directory, link, absent or unmanaged; for a file its `content`, or `source` (a path
on the controller), and `sha256` if neither may be read here; for a link its `target`. `mode`,
`owner` and `group` are root's by default. `effect` says what makes a change take effect: restart,
reload, trigger or "".

What a host has is a mapping from each path to `kind`, `mode`, `owner`, `group`, and `sha256` or
`target`; see `found`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The types as find(1) prints them.
_KINDS = {"f": "file", "d": "directory", "l": "link"}

_MODES = {"file": "0644", "directory": "0755"}

# Of two effects the later one includes the earlier one.
EFFECTS = ("", "trigger", "reload", "restart")


@dataclass(frozen=True)
class Difference:
    """A wanted file that the host has not, or has otherwise.

    `sign` is + for a new file, ~ for a changed one, - for one to remove. `what` says in words what
    differs: "content", "mode 0600" and the like; "" for a new file.
    """

    item: Mapping[str, Any]
    sign: str
    what: str = ""

    @property
    def path(self) -> str:
        """The path of the file."""
        return str(self.item["path"])

    @property
    def effect(self) -> str:
        """What makes the change take effect."""
        return str(self.item.get("effect", ""))

    @property
    def words(self) -> str:
        """The difference for people."""
        about = {"+": "missing", "-": "to be removed"}.get(self.sign, self.what)
        return f"{self.path} ({about})"

    @property
    def line(self) -> str:
        """The difference as a line of the plan."""
        return f"{self.sign} {self.path}{f' ({self.what})' if self.what else ''}"


def found(read: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the files of ours that a host has, by path, from the output of files/read_host.sh."""
    more = {"file": ("sha256", read["checksums"]), "link": ("target", read["targets"])}
    files = {}
    for one in read["files"]:
        kind = _KINDS.get(one["type"], "special file")
        key, values = more.get(kind, ("", {}))
        known = {name: one[name] for name in ("mode", "owner", "group")}
        files[one["path"]] = {**known, "kind": kind, key: values.get(one["path"], "")}
    return files


def differences(
    wanted: Iterable[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> list[Difference]:
    """Return what differs, in the order in which it is wanted."""
    compared = (_compare(item, found.get(str(item["path"]))) for item in wanted)
    return [difference for difference in compared if difference]


def strongest(effects: Collection[str]) -> str:
    """Return the effect that includes all others; "" if there is none."""
    return max(effects, key=EFFECTS.index, default="")


def _compare(item: Mapping[str, Any], found: Mapping[str, Any] | None) -> Difference | None:
    kind = item.get("kind", "file")
    if kind == "unmanaged":
        return None
    if kind == "absent":
        return Difference(item, "-") if found else None
    if not found:
        return Difference(item, "+")
    if found["kind"] != kind:
        return Difference(item, "~", f"is a {found['kind']}")
    if kind == "link":
        target = found.get("target")
        return None if target == item["target"] else Difference(item, "~", f"leads to {target}")
    what = []
    if kind == "file" and found.get("sha256") != sha256(item):
        what.append("content")
    for key, default in (("mode", _MODES[kind]), ("owner", "root"), ("group", "root")):
        if found.get(key) != str(item.get(key, default)):
            what.append(f"{key} {found.get(key)}")
    return Difference(item, "~", ", ".join(what)) if what else None


def sha256(item: Mapping[str, Any]) -> str:
    """Return the checksum of a wanted file's content, in hexadecimal digits."""
    if "sha256" in item:
        return str(item["sha256"])
    content = Path(item["source"]).read_bytes() if "source" in item else item["content"].encode()
    return hashlib.sha256(content).hexdigest()
