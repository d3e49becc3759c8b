"""A program is tried beside the daemon that runs: what a trial finds, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Adapter, MakePort, free_tcp_port, on_each_loop
from process import StartDaemon, entry, run, toml
from ttybridge.daemon import trial
from ttybridge.model.config import Config
from ttybridge.model.values import Listen
from ttybridge.serve.port import ServedPort
from ttybridge.serve.service import Service

NOTHING = Config(())


def written(folder: Path, *entries: dict[str, Any], metrics: str = "") -> str:
    """The path of a configuration."""
    path = folder / "ttybridge.toml"
    tables = [
        "\n".join(["[[port]]", *(f"{key} = {toml(value)}" for key, value in one.items())])
        for one in entries
    ]
    path.write_text("\n".join([f'metrics = "{metrics}"' if metrics else "", *tables, ""]))
    return str(path)


def test_a_program_that_serves_passes(tmp_path: Path) -> None:
    done = run("try", runtime=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" can serve here\n")


@on_each_loop
async def test_it_touches_nothing_of_the_daemon_that_runs(
    adapter: Adapter, daemon: StartDaemon, tmp_path: Path
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    client = await process.connect(sw)
    await adapter.send(b"before")
    assert await client.receive(6) == b"before"
    locks = sorted(process.locks.iterdir())
    # The same device and TCP port, and the daemon's own place for its control socket.
    config = written(tmp_path, sw, metrics=f"127.0.0.1:{free_tcp_port()}")
    done = await asyncio.to_thread(run, "try", "--config", config, runtime=process.runtime)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(process.locks.iterdir()) == locks
    assert (await process.port())["clients"][0]["address"] == client.name
    await adapter.send(b"after")
    assert await client.receive(5) == b"after"


def test_it_tells_systemd_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("FDSTORE", "100")
        trial.run(NOTHING)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_it_leaves_no_lock_file_and_no_descriptor(lock_directory: Path) -> None:
    trial.run(NOTHING)
    before = os.listdir("/proc/self/fd")
    trial.run(NOTHING)
    assert os.listdir("/proc/self/fd") == before
    assert list(lock_directory.iterdir()) == []


def test_a_faulty_configuration_is_named(tmp_path: Path) -> None:
    config = written(tmp_path, entry(device="/dev/ttyUSB0", parity="N"))
    done = run("try", "--config", config, runtime=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "port sw: parity: 'N': write none, even" in done.stderr


def test_what_a_faulty_program_raises_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, make_port: MakePort
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no ports today")

    monkeypatch.setattr(Service, "__init__", broken)
    with pytest.raises(trial.TrialError, match="^this program cannot serve here: RuntimeError: no"):
        trial.run(Config((make_port(),)))


def test_what_asyncio_only_logs_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("cannot read today")

    monkeypatch.setattr(ServedPort, "_readable", broken)
    with pytest.raises(trial.TrialError, match="RuntimeError: cannot read today"):
        trial.run(NOTHING)


def test_a_program_through_which_nothing_passes_does_not_keep_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ServedPort, "from_client", lambda *_: None)
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 0.2)
    with pytest.raises(trial.TrialError, match=r"no byte came through in 0\.2 s"):
        trial.run(NOTHING)


def test_other_bytes_than_those_that_were_sent_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ServedPort.from_client
    monkeypatch.setattr(
        ServedPort, "from_client", lambda self, client, data: original(self, client, data.lower())
    )
    trial.run(NOTHING)
    monkeypatch.setattr(
        ServedPort, "from_client", lambda self, client, data: original(self, client, b"?")
    )
    with pytest.raises(trial.TrialError, match=r"b'\?' and b'<' came through"):
        trial.run(NOTHING)


def test_metrics_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    trial.run(NOTHING)
    with pytest.raises(trial.TrialError, match="apt install python3-prometheus-client"):
        trial.run(Config((), Listen("127.0.0.1", free_tcp_port())))
