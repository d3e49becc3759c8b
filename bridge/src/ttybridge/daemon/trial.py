"""A trial: whether this program can serve on this machine, beside the daemon that runs there.

It opens no device and no listener of a configuration, makes no control socket and tells systemd
nothing. It serves a pty of its own on a TCP port of 127.0.0.1 that is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import socket
import tty
from collections.abc import Iterator, Sequence
from typing import Any

from ttybridge.daemon import main, metrics
from ttybridge.model import config
from ttybridge.model.ports import Port
from ttybridge.model.values import Listen
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.bounds import Bounds
from ttybridge.serve.server import Server
from ttybridge.serve.service import Service

# How long a trial may take once the program is loaded, in seconds: far more than a slow Pi needs.
TRIAL_SECONDS = 20.0


class TrialError(Exception):
    """This program cannot serve here; the message says why."""


def run(wanted: config.Config) -> None:
    """Make the ports of a configuration, then pass a byte each way through a port of its own.

    Raises `TrialError` where something of it fails.
    """
    try:
        with asyncio.Runner(loop_factory=main.fastest_loop()) as runner:
            runner.run(_in_time(wanted))
    except Exception as error:  # a faulty program can raise anything
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        raise TrialError(f"this program cannot serve here: {words}") from error


async def _in_time(wanted: config.Config) -> None:
    """Run the trial, and end it at the first exception, also one that asyncio would only log."""
    loop = asyncio.get_running_loop()
    trial = asyncio.create_task(_serve(wanted))
    failures: list[Exception] = []

    def failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))
        if len(failures) == 1:  # a second cancel would end the cleaning up
            trial.cancel()

    loop.set_exception_handler(failed)
    done, _ = await asyncio.wait([trial], timeout=TRIAL_SECONDS)
    if not done:
        trial.cancel()
        await asyncio.wait([trial], timeout=TRIAL_SECONDS)
        raise TimeoutError(f"no byte came through in {TRIAL_SECONDS:g} s")
    if failures:
        raise failures[0]
    trial.result()


async def _serve(wanted: config.Config) -> None:
    _make(wanted.ports)
    with _line() as (far, near), _reserved() as number:
        port = _port(os.ttyname(near), number)
        server = Server()
        await server.start([port])
        try:
            await _pass_bytes(number, far)
            json.dumps(server.status())
            if wanted.metrics:
                (await metrics.serve(Listen("127.0.0.1", 0), server.status)).close()
        finally:
            await server.stop()


def _make(ports: Sequence[Port]) -> None:
    """Make what serves ports, and start nothing of it: so nothing is opened."""
    urgent, bounds = FullModeWatch(), Bounds()
    for port in ports:
        Service(port, urgent, bounds)
    urgent.close()


@contextlib.contextmanager
def _line() -> Iterator[tuple[int, int]]:
    """A pty: the far end of a serial line, and the near one, which is a tty."""
    far, near = pty.openpty()
    try:
        tty.setraw(near)
        os.set_blocking(far, False)
        yield far, near
    finally:
        os.close(near)
        os.close(far)


@contextlib.contextmanager
def _reserved() -> Iterator[int]:
    """A TCP port of 127.0.0.1 for our listener: the kernel gives it to nobody else."""
    with socket.socket() as holder:
        # Bound only, and with this option, as the listener: so both can be there.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _port(device: str, number: int) -> Port:
    entry = {"name": "trial", "device": device, "listen": f"127.0.0.1:{number}"}
    (port,) = config.parse([entry], "trial")
    return port


async def _pass_bytes(number: int, far: int) -> None:
    """Connect a client; pass a byte to the device, and one from it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", number))
        await loop.sock_sendall(client, b">")
        await _readable(far)
        to_device = os.read(far, 64)
        os.write(far, b"<")
        to_client = await loop.sock_recv(client, 64)
    if (to_device, to_client) != (b">", b"<"):
        raise ValueError(f"{to_device!r} and {to_client!r} came through, not b'>' and b'<'")


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
