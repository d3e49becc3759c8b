"""What is closed when another entry of a port takes the place of the present one.

The rule is written once, as `touches` of each key in `ports.py`: the daemon follows it at a reload,
and the plan of a run names the clients that this disconnects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ttybridge.model.ports import Port
from ttybridge.model.values import Touches, keys_of


@dataclass(frozen=True)
class Closed:
    """What one entry of a port closes of another.

    `listeners` are the addresses of listeners, as text, and "" for the connection that the port
    makes. Where the whole port is closed, they are all in it.
    """

    port: bool
    listeners: frozenset[str]


def closed(old: Port, new: Port) -> Closed:
    """Return what `new` closes of `old`, both entries of one port."""
    differences = touched(old, new)
    before = {str(each.at): each for each in old.listeners}
    if "port" in differences:
        return Closed(True, frozenset({*before, *([""] if old.connect else [])}))
    now = {str(each.at): each for each in new.listeners}
    gone = {at for at, each in before.items() if at not in now or touched(each, now[at]) - {"live"}}
    if old.connect and "listener" in differences:
        gone.add("")
    return Closed(False, frozenset(gone))


def touched(old: Any, new: Any) -> set[Touches]:
    """Return what the keys touch in which two of one model differ: ports, listeners, tables.

    Of a table that both have, the keys inside it decide.
    """
    found: set[Touches] = set()
    for name, field in keys_of(type(old)).items():
        before, now = getattr(old, name), getattr(new, name)
        if before == now:
            continue
        if dataclasses.is_dataclass(before) and type(before) is type(now) and keys_of(type(now)):
            found |= touched(before, now)
        else:
            found.add(field.metadata["touches"])
    return found
