"""The program that the controller builds for the Pis."""

from __future__ import annotations

import os
import pty
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import tty
import zipfile
from pathlib import Path

import pytest

BRIDGE = Path(__file__).resolve().parents[2] / "bridge"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(BRIDGE / "src", tmp_path / "src")
    shutil.copy(BRIDGE / "build.py", tmp_path)
    return tmp_path


def build(clone: Path, **environment: str) -> Path:
    command = [sys.executable, str(clone / "build.py")]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return Path(done.stdout.strip())


def test_same_sources_give_the_same_bytes(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = build(clone)
    other = tmp_path_factory.mktemp("other") / "somewhere" / "else"
    shutil.copytree(clone / "src", other / "src", copy_function=shutil.copyfile)
    shutil.copy(clone / "build.py", other)
    (other / "src" / "ttybridge" / "__pycache__").mkdir(exist_ok=True)
    (other / "src" / "ttybridge" / "__pycache__" / "cli.cpython-399.pyc").write_bytes(b"x")
    second = build(other)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_an_unchanged_program_is_not_written_again(clone: Path) -> None:
    first = build(clone)
    os.utime(first, (0, 0))
    assert build(clone).stat().st_mtime == 0


def test_a_changed_program_has_another_name(clone: Path) -> None:
    first = build(clone)
    with (clone / "src" / "ttybridge" / "cli.py").open("a") as file:
        file.write("# changed\n")
    assert build(clone).name != first.name


def test_it_says_which_build_it_is(clone: Path) -> None:
    """By the name that `bridge_version` takes, however its file is called."""
    first = build(clone)
    with (clone / "src" / "ttybridge" / "line" / "device.py").open("a") as file:
        file.write("# changed\n")
    second = build(clone)
    assert first.name != second.name
    for program in (first, second, Path(shutil.copy(second, clone / "renamed"))):
        name = (second if program.name == "renamed" else program).name
        said = run(program, "--version").stdout
        assert said == f"ttybridge {name.removeprefix('ttybridge-')}\n"


def test_it_runs_by_itself(clone: Path, tmp_path: Path) -> None:
    program = build(clone)
    assert program.name.startswith("ttybridge-0.1.0+")
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert program.read_bytes().startswith(b"#!/usr/bin/python3 -I\n")
    configuration = tmp_path / "ttybridge.toml"
    configuration.write_text('[[port]]\nname = "a"\ndevice = "/dev/ttyS0"\nlisten = "9999"\n')
    # By this Python: /usr/bin/python3 need not be one that is new enough.
    command = [sys.executable, "-I", str(program), "check", "--config", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")


def names(program: Path) -> set[str]:
    """The modules in a program."""
    with zipfile.ZipFile(program) as archive:
        files = {Path(name) for name in archive.namelist()}
    return {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}


def test_what_only_the_controller_needs_is_not_in_it(clone: Path) -> None:
    held = names(build(clone))
    setup = {file.stem for file in (BRIDGE / "src" / "ttybridge" / "setup").glob("*.py")}
    here_only = {"boot_config", "inventory", "reach", "read_back", "schema", "sources"}
    assert here_only <= setup
    assert {f"ttybridge.setup.{name}" for name in here_only} & held == set()
    assert {"ttybridge.cli", "ttybridge.daemon.main", "ttybridge.setup.yaml_text"} <= held


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, by this Python: /usr/bin/python3 need not be one that is new enough."""
    command = [sys.executable, "-I", str(program), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def test_each_command_runs(clone: Path) -> None:
    program = build(clone)
    commands = re.findall("^    ([a-z]+) ", run(program, "--help").stdout, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        done = run(program, command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: ttybridge {command}")


def test_each_module_in_it_finds_what_it_imports(clone: Path) -> None:
    """Also where a command imports it only once it runs."""
    program = build(clone)
    script = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]);"
        "print([importlib.import_module(name).__file__ for name in sys.argv[2:]])"
    )
    modules = sorted(names(program) - {"__main__"})
    command = [sys.executable, "-I", "-c", script, str(program), *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.stderr == ""
    assert done.stdout.count(str(program)) == len(modules)


def test_it_serves_a_port(clone: Path, tmp_path: Path) -> None:
    far, near = pty.openpty()
    tty.setraw(near)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()
    port = f"name=sw,device={os.ttyname(near)},listen=127.0.0.1:{listen[1]}"
    command = [sys.executable, "-I", str(build(clone)), "serve", "--port", port]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            with connected(daemon, listen) as client:
                client.sendall(b"there")
                assert os.read(far, 5) == b"there"
                os.write(far, b"back")
                assert client.recv(4) == b"back"
        finally:
            daemon.terminate()
        said = daemon.communicate()[1]
    assert (daemon.returncode, "Traceback" in said) == (0, False)
    os.close(far)
    os.close(near)


def connected(daemon: subprocess.Popen[str], listen: tuple[str, int]) -> socket.socket:
    """A client, once the daemon listens."""
    while daemon.poll() is None:
        try:
            return socket.create_connection(listen, 60)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError(daemon.communicate()[1])


def test_a_clone_that_cannot_be_written_to(clone: Path, tmp_path: Path) -> None:
    (clone / "dist").write_text("in the way")
    program = build(clone, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert program.parent == tmp_path / "cache" / "ttyfleet"
    assert program.exists()
