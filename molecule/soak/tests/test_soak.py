"""What the soak must show: no session is dropped, and no byte is lost that can be kept."""

from __future__ import annotations

import pytest

from live_keys import CHANGES
from sessions import BAUDRATE
from soaked import HOSTS, Counts, Outcome
from touches import touches
from ttybridge.model.ports import SER2NETS_OWN

# Nothing is lost.
ORDERLY = [
    "upgrade",
    "reload",
    "restart",
    "another program",
    "unplug and plug",
    "caught exception",
    "broken program",
]
# What is in the memory of the process is lost.
KILLS = ["SIGKILL", "fatal exception", "hang", "dies at its start"]
# The TLS sessions go on.
SAME_PROCESS = ["reload", "unplug and plug", "caught exception"]

# A process reads so many bytes at a time of a device or a client, and these streams leave no others
# in its queues.
IN_MEMORY = 65536
# But one that dies at its start, again and again, has each time read what has come in the pause
# before, as far as it may wait for a device (docs/architecture.md).
OF_A_PAUSE = 8 * 2**20

each_host = pytest.mark.parametrize("host", HOSTS)


def of(outcomes: list[Outcome], host: str, kind: str) -> list[Outcome]:
    """What the events of a kind did on a host; each kind has come."""
    found = [one for one in outcomes if (one.host, one.kind) == (host, kind)]
    assert found
    return found


def damaged(outcomes: list[Outcome]) -> list[tuple[str, str, Counts]]:
    """The streams that did not arrive as they were sent, each with its event."""
    streams = [
        (one.what, f"{way} {name}", counts)
        for one in outcomes
        for way, all_ in (("to client", one.to_client), ("to device", one.to_device))
        for name, counts in all_.items()
    ]
    return [each for each in streams if each[2].lost or each[2].repeated or each[2].wrong]


def test_each_live_key_is_reloaded() -> None:
    changed = {key for changes in CHANGES.values() for key, _ in changes}
    # The sessions have no certificates: bridge/tests/serve/test_reload.py reloads these.
    of_certificates = {"allow_names", "listen.allow_names"}
    # The sessions are those of ttybridge.
    of_ser2net = {f"listen.{key}" for key in SER2NETS_OWN}
    live = {key for key, touched in touches() if touched == "live"}
    assert changed == live - of_certificates - of_ser2net


@each_host
@pytest.mark.parametrize("kind", ORDERLY + KILLS)
def test_no_session_is_dropped(outcomes: list[Outcome], host: str, kind: str) -> None:
    assert [(one.what, one.dropped) for one in of(outcomes, host, kind) if one.dropped] == []


@each_host
@pytest.mark.parametrize("kind", ORDERLY)
def test_nothing_is_lost_or_repeated(outcomes: list[Outcome], host: str, kind: str) -> None:
    assert damaged(of(outcomes, host, kind)) == []


@each_host
@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_loses_at_most_what_was_in_memory(
    outcomes: list[Outcome], host: str, kind: str
) -> None:
    most = OF_A_PAUSE if kind == "dies at its start" else IN_MEMORY
    for _, _, counts in damaged(of(outcomes, host, kind)):
        assert counts.lost <= most
        assert counts.wrong <= IN_MEMORY
        assert counts.repeated == 0


@each_host
@pytest.mark.parametrize("kind", SAME_PROCESS)
def test_tls_sessions_go_on_in_the_same_process(
    outcomes: list[Outcome], host: str, kind: str
) -> None:
    assert [one.what for one in of(outcomes, host, kind) if one.tls] == []


@each_host
@pytest.mark.parametrize("kind", ORDERLY + KILLS)
def test_what_an_rfc2217_client_has_set_stays(
    outcomes: list[Outcome], host: str, kind: str
) -> None:
    for one in of(outcomes, host, kind):
        assert one.baudrates == {BAUDRATE}, one.what
