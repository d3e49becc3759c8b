"""What the process before this one has left in systemd's store, and what this one leaves.

After a restart that is `state`: the records of all ports with every byte that was in memory.
After a kill it is the record that each port has written while it ran (serve/keeper.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from ttybridge.daemon import systemd
from ttybridge.daemon.store import Store
from ttybridge.serve import handover
from ttybridge.serve.record import MemoryFile
from ttybridge.serve.state import PortState

_STATE = "state"
_RECORD = "r"
"""How the names of the ports' records begin."""

# So many processes in a row may begin with the same record: it may be what ends them.
MOST_TRIES = 3

log = logging.getLogger(__name__)


class Earlier:
    """What an earlier process has left, if there was one."""

    def __init__(self, kept: dict[str, int], store: Store | None) -> None:
        self._store = store
        self._records = {name: kept.pop(name) for name in [*kept] if name.startswith(_RECORD)}
        state = kept.pop(_STATE, None)
        if state is not None and store:
            # If this process fails with it, the next one does not try again.
            store.drop(_STATE)
        there = bool(kept or self._records or state is not None)
        ports = _ports_of_state(state) if state is not None else self._ports_after_a_kill()
        self.inheritance = handover.Inheritance(ports, kept, store) if there else None

    def _ports_after_a_kill(self) -> dict[str, PortState]:
        # Later ones have greater numbers: a process may have ended before it dropped the earlier.
        ports: dict[str, PortState] = {}
        for name in sorted(self._records, key=lambda name: (len(name), name)):
            ports |= _ports_of_record(MemoryFile(self._records[name]))
        return ports

    def forget(self) -> None:
        """This process keeps records of its own."""
        for name, descriptor in self._records.items():
            if self._store:
                self._store.drop(name)
            os.close(descriptor)
        self._records.clear()


def earlier() -> tuple[Store | None, Earlier]:
    """Return the store, if systemd has one for this process, and what is in it."""
    kept = systemd.kept()
    store = None
    if systemd.keeps_descriptors():
        try:
            store = Store(kept)
        except OSError as error:
            log.warning("cannot tell systemd what to keep: %s", error.strerror)
    return store, Earlier(kept, store)


def leave(records: Mapping[str, PortState], store: Store) -> None:
    """Leave the records of all ports to the next process; `OSError` if systemd does not answer."""
    with open(os.memfd_create(_STATE), "wb") as file:
        file.writelines(handover.dump(records))
        file.flush()
        store.keep(_STATE, file.fileno())
        store.settle()


def _ports_of_state(descriptor: int) -> dict[str, PortState]:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return _load(file.read())


def _ports_of_record(file: MemoryFile) -> dict[str, PortState]:
    record = file.read()
    if record is None:
        return {}
    if file.begin_to_read() > MOST_TRIES:
        words = "the last %d processes have ended with this record: its clients are disconnected"
        log.error(words, MOST_TRIES)
        return {}
    return _load(record)


def _load(data: bytes) -> dict[str, PortState]:
    try:
        return handover.load(data)
    except ValueError as error:
        log.error("hand-over failed, clients are disconnected: %s", error)
        return {}
