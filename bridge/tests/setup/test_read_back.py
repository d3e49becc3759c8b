"""What reads a Pi back, as the Pi runs it."""

from __future__ import annotations

import ipaddress
import json
import os
import pty
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ttybridge.setup import listeners, read_back
from ttybridge.setup.listeners import Connection
from ttybridge.setup.sources import as_command

UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "Result": "success",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
    "UID": "61000",
}


def one(at: str, peer: str = "", user: int = 61000) -> Connection:
    """A listener, or a connection with a peer."""
    address, _, port = at.rpartition(":")
    found = ipaddress.ip_address(address.strip("[]"))
    return Connection(found, int(port), peer or "0.0.0.0:0", not peer, user, 0)


@pytest.fixture
def open_() -> list[Connection]:
    """A listener on 127.0.0.1:9998, one on every address at 9999 with a client."""
    return [one("127.0.0.1:9998"), one("[::]:9999"), one("192.0.2.1:9999", "192.0.2.7:49153")]


WELL: dict[str, Any] = {"present": True, "problem": None, "refused_settings": []}
SERVED: dict[str, Any] = {"a": {"device": WELL, "log": None, "listen_problem": None}}
BRIDGE = read_back.Bridge(SERVED)
LOGIN = {"send": "\r", "expect": "login:"}
# Sends nothing: a listener that closes with bytes unread resets the connection.
SILENT = {"send": "", "expect": "login:"}


def listener(number: int, address: str = "", **keys: Any) -> dict[str, Any]:
    return {
        "at": f"{address}:{number}" if address else str(number),
        "address": address,
        "port": number,
        "protocol": "raw",
        "access": "write",
        "tls": None,
        "allow": [],
        **keys,
    }


def port(*listeners: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "engine": "bridge",
        "listeners": listeners,
        "endpoint": ", ".join(each["at"] for each in listeners),
        "path": "/dev/null",
        "probe": None,
        "connect": None,
        **keys,
    }


def fault(call: Any, *arguments: Any) -> read_back.Fault:
    with pytest.raises(read_back.Fault) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize(
    ("number", "address", "right"),
    [(9999, "", True), (9998, "127.0.0.1", True), (9998, "", False), (9999, "127.0.0.1", False)],
)
def test_listener(open_: list[Connection], number: int, address: str, right: bool) -> None:
    arguments = listener(number, address), "ttybridge", UNIT, open_
    if right:
        read_back.check_listener(*arguments, None)
    else:
        said = fault(read_back.check_listener, *arguments, None).result
        assert said == "ttybridge does not listen"
        said = fault(read_back.check_listener, *arguments, "tls.key: no").result
        assert said == "ttybridge does not listen: tls.key: no"


def test_another_programs_listener(open_: list[Connection]) -> None:
    unit = {**UNIT, "UID": "62000"}
    found = fault(read_back.check_listener, listener(9999), "ttybridge", unit, open_, None)
    assert found.result == "another program listens in ttybridge's place"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"LoadState": "not-found"}, "ttybridge is not installed"),
        (
            {"ActiveState": "failed", "Result": "exit-code"},
            "ttybridge.service is failed (exit-code)",
        ),
        ({"UnitFileState": "disabled"}, "ttybridge.service is disabled"),
        ({"NeedDaemonReload": "yes"}, "ttybridge.service runs with an older unit file"),
    ],
)
def test_unit(change: dict[str, str], words: str) -> None:
    read_back.check_unit("ttybridge", UNIT)
    assert fault(read_back.check_unit, "ttybridge", {**UNIT, **change}).result == words


def test_device(tmp_path: Path) -> None:
    drivers = tmp_path / "drivers"
    drivers.write_text(
        "/dev/tty  /dev/tty  5  0 system\npty_slave  /dev/pts  136 0-1048575 pty:slave\n"
    )
    link = tmp_path / "link"
    missing = fault(read_back.check_device, str(link), drivers)
    assert missing.result == f"no device: {link} does not exist"
    link.symlink_to("/nowhere")
    assert fault(read_back.check_device, str(link), drivers).result.endswith("leads nowhere")
    link.unlink()
    link.symlink_to("/dev/null")
    assert fault(read_back.check_device, str(link), drivers).result == f"{link} is not a tty"
    master, slave = pty.openpty()
    link.unlink()
    link.symlink_to(os.ttyname(slave))
    os.chmod(link, 0o600)
    assert "closed to the group dialout" in fault(read_back.check_device, str(link), drivers).result
    os.chmod(link, 0o666)
    read_back.check_device(str(link), drivers)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", b"plain"),
        (b"\xff\xfb\x01\xff\xfd\x03log\xff\xffin\r\0", b"log\xffin\r"),
        (b"a\xff\xfa\x2c\x01\x02\xff\xf0b\xff\xf1c", b"abc"),
        (b"a\xff", b"a"),
        (b"a\xff\xfb", b"a"),
        (b"a\xff\xfa\x2c", b"a"),
    ],
)
def test_without_telnet(data: bytes, text: bytes) -> None:
    assert read_back.without_telnet(data) == text


@pytest.fixture
def device() -> Iterator[Any]:
    """A listener that says what it is given to say, after what it is sent; then stays or closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def answer(*parts: bytes, close: bool = False) -> None:
            def serve() -> None:
                client, _ = server.accept()
                with client:
                    if not close:
                        got.append(client.recv(99))
                    for part in parts:
                        client.sendall(part)
                    if not close:
                        client.recv(1)

            threading.Thread(target=serve, daemon=True).start()

        yield server.getsockname()[1], answer, got


def test_probe(device: Any) -> None:
    number, answer, got = device
    answer(b"\xff\xfb\x01lo", b"gin:")
    probed = listener(number, protocol="telnet")
    assert read_back.probe(probed, LOGIN, 5) == "answered 'login:'"
    assert got == [b"\r\0"]


def test_probe_with_another_answer(device: Any) -> None:
    number, answer, _ = device
    answer(b"nonsense")
    said = "device answered 'nonsense', not 'login:' within 0.2 s"
    assert fault(read_back.probe, listener(number), LOGIN, 0.2).result == said


@pytest.mark.parametrize("told", read_back.REFUSALS[1:])
def test_probe_of_a_port_in_use(device: Any, told: str) -> None:
    number, answer, _ = device
    answer(f"{told}\r\n".encode(), close=True)
    assert read_back.probe(listener(number), SILENT, 5) == told


def test_a_port_in_use_is_not_probed(
    open_: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_back, "check_device", lambda path: None)
    probed = port(listener(9998, "127.0.0.1"), listener(9999), probe=LOGIN)
    assert (
        read_back.check_port(probed, UNIT, open_, 5, BRIDGE, [probed])
        == "in use by 192.0.2.7:49153"
    )


def test_a_port_whose_allow_keeps_the_host_out_is_not_probed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_back, "check_device", lambda path: None)
    monkeypatch.setattr(read_back, "check_listener", lambda *_: None)
    shut = port(listener(9999, allow=["192.0.2.0/24"]), probe=LOGIN)
    found = read_back.check_port(shut, UNIT, [], 5, BRIDGE, [shut])
    assert found == "listens, device is there; not probed: allow keeps the host itself out"


@pytest.mark.parametrize(
    ("listen", "allow", "may"),
    [
        ("", [], True),
        ("", ["127.0.0.0/8"], True),
        ("", ["192.0.2.0/24", "::1/128"], False),
        ("0.0.0.0", ["127.0.0.1/32"], True),
        ("127.0.0.7", ["127.0.0.7/32"], False),
        ("192.0.2.1", [], True),
        ("", ["any"], True),
        ("", ["local", "192.0.2.0/24"], True),
    ],
)
def test_whether_allow_lets_the_host_itself_in(listen: str, allow: list[str], may: bool) -> None:
    """A host connects to 127.0.0.7 from 127.0.0.1."""
    assert read_back.may_connect(listener(9999, listen, allow=allow)) == may


def test_two_ports_on_one_tty(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to("/dev/null")
    (tmp_path / "c").symlink_to("/dev/zero")
    paths = {name: str(tmp_path / name) for name in "abc"} | {"d": "/dev/null"}
    ports = [port(**{"name": name, "path": path}) for name, path in paths.items()]
    a, b, c, d = ports
    read_back.check_alone(c, ports)
    found = fault(read_back.check_alone, a, ports)
    assert found.result == "its device /dev/null is also that of port b, d"
    assert found.todo.startswith("add serial, path, interface or port to usb")
    assert fault(read_back.check_alone, b, ports).result.endswith("port a, d")
    assert fault(read_back.check_alone, d, ports).result.endswith("port a, b")


@pytest.mark.parametrize(
    ("bridge", "words"),
    [
        (read_back.Bridge(), "ttybridge does not serve it"),
        (
            read_back.Bridge(problem="no daemon answers"),
            "ttybridge does not say what it serves: no daemon answers",
        ),
        (
            read_back.Bridge(SERVED, reload_problem="port a: listen: missing"),
            "ttybridge has not taken its configuration: port a: listen: missing",
        ),
        (
            read_back.Bridge({"a": {"device": {"problem": "/dev/x is in use by another program"}}}),
            "/dev/x is in use by another program",
        ),
        (
            read_back.Bridge(
                {"a": {"device": {"problem": None, "refused_settings": ["bytesize 7"]}}}
            ),
            "the device refuses bytesize 7",
        ),
        (
            read_back.Bridge(
                {"a": {"device": WELL, "log": {"file": "/l", "problem": "no space is left"}}}
            ),
            "its log /l is not written: no space is left",
        ),
    ],
)
def test_a_port_that_ttybridge_cannot_serve(bridge: read_back.Bridge, words: str) -> None:
    assert fault(read_back.check_served, "a", bridge).result == words


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the commands of the host: nothing else is found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_program_that_is_missing_or_fails_is_no_traceback(commands: Path) -> None:
    missing = read_back.Bridge(problem="/usr/local/bin/ttybridge: No such file or directory")
    assert read_back.ask_bridge() == missing
    command(commands, "ttybridge", "echo 'no daemon  answers' >&2; exit 1")
    assert read_back.ask_bridge() == read_back.Bridge(problem="no daemon answers")
    command(commands, "ttybridge", "exit 3")
    assert read_back.ask_bridge() == read_back.Bridge(problem="status 3")


def test_an_earlier_program_that_says_less(commands: Path) -> None:
    command(commands, "ttybridge", """echo '{"pid": 1, "ports": [{"name": "a"}]}'""")
    assert read_back.ask_bridge() == read_back.Bridge({"a": {"name": "a"}})


def test_why_a_unit_failed(commands: Path) -> None:
    unit = {**UNIT, "ActiveState": "activating", "Result": "exit-code"}
    command(commands, "journalctl", 'echo "$*"')
    said = fault(read_back.check_unit, "ser2net", unit).result
    assert said.startswith("ser2net.service is activating (exit-code): ")
    assert "_SYSTEMD_UNIT=ser2net.service PRIORITY=3" in said
    said = fault(read_back.check_unit, "ser2net", {**unit, "Result": "success"}).result
    assert said.startswith("ser2net.service is activating: --quiet")
    stopped = {**unit, "ActiveState": "inactive", "Result": "success"}
    assert fault(read_back.check_unit, "ser2net", stopped).result == "ser2net.service is inactive"
    command(commands, "journalctl", "exit 0")
    said = fault(read_back.check_unit, "ser2net", unit).result
    assert said == "ser2net.service is activating (exit-code)"


@pytest.fixture
def metrics(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Where an HTTP server answers a request once, with what the test asks for."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(9999)
                client.sendall(request.param)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        number = server.getsockname()[1]
        yield {"address": "127.0.0.1", "port": number, "text": f"127.0.0.1:{number}"}


def answer_of(wanted: dict[str, Any]) -> str:
    # This very process listens, as the service's own user does on a host.
    unit = {**UNIT, "UID": str(os.getuid())}
    return read_back.check_metrics(wanted, unit, listeners.connections(), BRIDGE)


@pytest.mark.parametrize("metrics", [b"HTTP/1.0 200 OK\r\n\r\nttybridge_info 1\n"], indirect=True)
def test_metrics_that_answer(metrics: dict[str, Any]) -> None:
    assert answer_of(metrics) == "shows metrics"


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nhello\n", "answers 200, not with metrics"),
        (b"HTTP/1.0 404 Not Found\r\n\r\nttybridge_info\n", "answers 404, not with metrics"),
        (b"", "metrics do not answer: "),
        (b"login: ", "metrics do not answer: login: "),
    ],
    indirect=["metrics"],
)
def test_metrics_that_are_something_else(metrics: dict[str, Any], words: str) -> None:
    assert fault(answer_of, metrics).result.startswith(words)


def test_metrics_that_are_not_where_they_are_wanted() -> None:
    wanted = {"address": "127.0.0.1", "port": 9410, "text": "127.0.0.1:9410"}
    bridge = read_back.Bridge(metrics={"listen": "127.0.0.1:9410", "problem": "in use"})
    found = fault(read_back.check_metrics, wanted, UNIT, [], bridge)
    assert found.result == "ttybridge does not listen: in use"
    bridge = read_back.Bridge(metrics={"listen": "9410", "problem": None})
    found = fault(read_back.check_metrics, None, UNIT, [], bridge)
    assert found.result == "ttybridge still shows its metrics at 9410"


@pytest.mark.parametrize(
    ("wanted", "shown", "rows"),
    [
        (None, None, 1),
        (None, "9410", 2),
        ({"address": "", "port": 9410, "text": "9410"}, None, 2),
    ],
)
def test_metrics_have_a_finding_of_their_own(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any] | None, shown: str | None, rows: int
) -> None:
    bridge = read_back.Bridge(SERVED, metrics={"listen": shown, "problem": None})
    monkeypatch.setattr(read_back, "units", lambda names: dict.fromkeys(names, UNIT))
    monkeypatch.setattr(read_back, "ask_bridge", lambda: bridge)
    monkeypatch.setattr(read_back, "check_port", lambda *_: "listens")
    found = list(read_back.findings([port(listener(1))], wanted, 5))
    assert [one["about"] for one in found] == ["port a", "bridge_metrics"][:rows]
    assert found[0]["todo"] == ""
    assert all(one["todo"] and one["listen"] == "9410" for one in found[1:])


def test_an_answer_that_speaks_of_use_is_no_refusal(device: Any) -> None:
    number, answer, _ = device
    answer(b"address in use\r\n", close=True)
    said = fault(read_back.probe, listener(number), SILENT, 5).result
    assert "answered 'address in use', not 'login:'" in said


def test_a_port_for_users_only_has_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "check_device", lambda path: None)
    people = port(endpoint="console", users=["tech1"])
    assert read_back.check_port(people, UNIT, [], None, BRIDGE, [people]) == "for users only"
    found = read_back.check_port(people, UNIT, [], 5, BRIDGE, [people])
    assert found == "for users only, device is there"


def test_a_port_that_connects_has_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "check_device", lambda path: None)
    connecting = port(endpoint="-> pc:1", connect={"host": "pc", "port": 1})
    assert read_back.check_port(connecting, UNIT, [], None, BRIDGE, [connecting]) == "connects"
    found = read_back.check_port(connecting, UNIT, [], 5, BRIDGE, [connecting])
    assert found == "connected, device is there"
    away = read_back.Bridge(
        {"a": {**SERVED["a"], "listen_problem": "cannot connect to pc:1: no answer"}}
    )
    assert fault(read_back.check_port, connecting, UNIT, [], 5, away, [connecting]).result == (
        "cannot connect to pc:1: no answer"
    )
    away = read_back.Bridge({"a": {**SERVED["a"], "device": {"problem": "/dev/x is away"}}})
    assert (
        fault(read_back.check_port, connecting, UNIT, [], 5, away, [connecting]).result
        == "/dev/x is away"
    )


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """A certificate that nobody has signed, and its key."""
    files = {"certificate": str(tmp_path / "pem"), "key": str(tmp_path / "key")}
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=pi"
    out = ["-out", files["certificate"], "-keyout", files["key"]]
    subprocess.run([*command.split(), *out], check=True, capture_output=True)
    return files


def test_probe_through_tls(tls: dict[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["certificate"], tls["key"])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True) as client:
                client.sendall(b"got " + client.recv(99))

        thread = threading.Thread(target=serve)
        thread.start()
        probed = listener(server.getsockname()[1], tls={**tls, "client_ca": None})
        sent = {"send": "\r", "expect": "got \r"}
        assert read_back.probe(probed, sent, 5) == "answered 'got \\r'"
        thread.join()


def test_tls_files_that_ttybridge_could_not_use(tls: dict[str, str], tmp_path: Path) -> None:
    good: dict[str, str | None] = {**tls, "client_ca": None}
    read_back.check_tls(good)
    read_back.check_tls({**good, "client_ca": tls["certificate"]})
    another = tmp_path / "another"
    command = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out"
    subprocess.run([*command.split(), str(another)], check=True, capture_output=True)
    other = {**good, "key": str(another)}
    assert fault(read_back.check_tls, other).result.endswith(": KEY_VALUES_MISMATCH")
    missing = {**good, "key": str(tmp_path / "none")}
    assert fault(read_back.check_tls, missing).result.endswith(": No such file or directory")
    Path(tls["key"]).write_text("nonsense")
    assert fault(read_back.check_tls, good).result.startswith(f"tls: {tls['certificate']}, ")


def test_probe_through_tls_of_a_port_without(device: Any) -> None:
    number, answer, _ = device
    answer(b"login:")
    probed = listener(number, tls={"client_ca": None})
    assert fault(read_back.probe, probed, SILENT, 5).result.startswith("TLS fails: ")


def test_a_port_that_asks_for_a_clients_certificate_is_not_probed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_back, "check_device", lambda path: None)
    monkeypatch.setattr(read_back, "check_listener", lambda *_: None)
    monkeypatch.setattr(read_back, "check_tls", lambda _: None)
    asking = port(listener(1, tls={"client_ca": "/ca"}), probe=LOGIN)
    found = read_back.check_port(asking, UNIT, [], 5, BRIDGE, [asking])
    assert found == "listens, device is there; not probed: tls asks for a client's certificate"


def test_every_listener_of_a_port_listens(open_: list[Connection]) -> None:
    """One that does not is named."""
    both = port(listener(9998, "127.0.0.1"), listener(9999))
    assert read_back.check_port(both, UNIT, open_, None, BRIDGE, [both]) == "listens"
    one = port(listener(9999), listener(9997))
    said = fault(read_back.check_port, one, UNIT, open_, None, BRIDGE, [one]).result
    assert said == "9997: ttybridge does not listen"


def test_the_first_listener_that_lets_the_host_write_is_probed(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, answer, got = device
    answer(b"login:")
    monkeypatch.setattr(read_back, "check_device", lambda path: None)
    monkeypatch.setattr(read_back, "check_listener", lambda *_: None)
    watched = listener(1, access="watch")
    shut = listener(2, allow=["192.0.2.0/24"])
    probed = port(watched, shut, listener(number, protocol="telnet"), probe=LOGIN)
    assert read_back.check_port(probed, UNIT, [], 5, BRIDGE, [probed]) == "answered 'login:'"
    assert got == [b"\r\0"]
    nowhere = port(watched, shut, probe=LOGIN)
    assert read_back.check_port(nowhere, UNIT, [], 5, BRIDGE, [nowhere]) == (
        "listens, device is there; not probed: its clients only watch, "
        "allow keeps the host itself out"
    )


def test_a_pi_runs_it_as_one_command(commands: Path, tmp_path: Path) -> None:
    """As the role verify sends it, to a Pi whose service does not run."""
    said = "Id=ttybridge.service\n" + "".join(f"{name}={value}\n" for name, value in UNIT.items())
    said = said.replace("=active", "=inactive")
    command(commands, "systemctl", f"/bin/cat <<'EOF'\n{said}EOF")
    for tool in ("base64", "gzip"):
        (commands / tool).symlink_to(f"/usr/bin/{tool}")
    argument = json.dumps({"ports": [port(listener(9999))], "metrics": None, "patience": 0})
    done = subprocess.run(
        ["/bin/sh", "-c", as_command("ttybridge.setup.read_back", argument)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    (found,) = json.loads(done.stdout)
    assert found == {
        **{"about": "port a", "port": "a", "listen": "9999"},
        "result": "ttybridge.service is inactive",
        "todo": "look into `journalctl -u ttybridge`, then run playbook.yml",
    }
