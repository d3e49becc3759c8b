"""One story for each release: what a person does with script/install, one step after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .machine import CLONE, FILES, MAP, ROOT, UDEV, Machine, Run

SUITES = ("bookworm", "trixie")

# A folder of all programs but sudo.
PROGRAMS = "mkdir -p /run/programs; ln -sf /usr/bin/* /run/programs; rm /run/programs/sudo"
WITHOUT_SUDO = "PATH=/run/programs:/usr/local/bin"

APT = "DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends"

# No pip in the story asks a registry: what it would get has been put there.
WHEELS = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/home/pi/wheels"

# As a person does it afterwards, without script/install.
REMOVE = f"cd {CLONE}; PATH=.venv/bin:$PATH ansible-playbook -i inventory/localhost remove.yml"


class Story:
    """What came of each step. Files are FILES of the machine, maps are the text of the port map."""

    files_before: str
    without_terminal: Run
    on_another_system: Run
    without_sudo: Run
    without_adapters: Run
    said_no: Run
    files_after_no: str
    fresh: Run
    fresh_map: str
    fresh_echo: bytes
    files_before_again: str
    again: Run
    files_after_again: str
    edited_map: str
    offline: Run
    map_after: str
    offline_echoes: list[bytes]


def clone() -> bytes:
    """The files of this clone, as they are now, as a tar archive."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT
    )
    names = [name for name in listed.split(b"\0") if name and os.path.lexists(ROOT / name.decode())]
    tar = ["tar", "--create", "--null", "--files-from=-"]
    return subprocess.run(tar, input=b"\0".join(names), cwd=ROOT, stdout=-1, check=True).stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What pip installs for requirements.txt on Debian 12, as a tar archive."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
        + ["--only-binary=:all:", "--python-version=3.11", "-r", str(ROOT / "requirements.txt")],
        check=True,
    )
    return subprocess.check_output(["tar", "-C", folder, "-c", "."])


def prepare(machine: Machine, wheels: bytes) -> None:
    machine.run(f"install -d -o pi -g pi {CLONE} /home/pi/wheels; mkdir -p /run/lab-adapters/sys")
    for folder, archive in ((CLONE, clone()), ("/home/pi/wheels", wheels)):
        machine.run(f"setpriv --reuid=pi --regid=pi --clear-groups tar -C {folder} -xf -", archive)
    machine.run(UDEV)


def edit(text: str) -> str:
    """A port gets a name and a remark, the other one settings."""
    text = text.replace("name: usb-serial-controller", "name: core-switch    # rack 3")
    # ser2net does not know the networks that the host is in.
    return text.replace(
        "listen: 10002\n    allow: [local]\n", "listen: 10002\n    engine: ser2net\n"
    )


def tell(machine: Machine, wheels: bytes, folder: Path) -> Story:
    """Go through all steps; `folder` is to write in."""
    story = Story()
    prepare(machine, wheels)
    machine.run("cat >/run/os-release", b'ID=other\nPRETTY_NAME="Other 1"\n')
    another_system = "mount --bind /run/os-release /etc/os-release"

    machine.run(PROGRAMS)
    story.files_before = machine.run(FILES)
    story.without_terminal = machine.install()
    story.on_another_system = machine.install("--yes", first=another_system)
    story.without_sudo = machine.install("--yes", environment=WITHOUT_SUDO)
    story.without_adapters = machine.install("--yes")
    machine.plug_in("ttyUSB0", folder / "1")
    machine.plug_in("ttyUSB1", folder / "2")
    story.said_no = machine.install(answers=["n"])
    story.files_after_no = machine.run(FILES)

    story.fresh = machine.install("--yes", environment=WHEELS)
    assert story.fresh.status == 0, story.fresh.output
    story.fresh_map = machine.run(f"cat {MAP}")
    story.fresh_echo = machine.echo(10001)

    # What docs/offline.md says for both engines.
    machine.run(f"{APT} install python3-serial python3-uvloop ser2net")
    machine.run("ip route delete default")
    machine.run(PROGRAMS)
    story.files_before_again = machine.run(FILES)
    story.again = machine.install("--yes", user="root", environment=WITHOUT_SUDO)
    story.files_after_again = machine.run(FILES)

    machine.run(f"runuser -u pi -- sh -ec '{REMOVE}'")
    machine.plug_in("ttyACM0", folder / "3")
    story.edited_map = edit(story.fresh_map)
    machine.run(f"cat >{MAP}", story.edited_map.encode())
    story.offline = machine.install(answers=["y", "y"])
    story.map_after = machine.run(f"cat {MAP}")
    story.offline_echoes = [machine.echo(port) for port in (10001, 10002, 10003)]
    return story


@pytest.fixture(scope="session")
def stories(wheels: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Story]]:
    lab = str(ROOT / "script" / "lab")
    names = [f"fresh-{suite}" for suite in SUITES]
    subprocess.run([lab, "down", *names], check=True)
    pairs = [f"fresh-{suite}={suite}" for suite in SUITES]
    subprocess.run([lab, "up", *pairs], check=True)
    try:
        with ThreadPoolExecutor() as pool:
            told = [
                pool.submit(tell, Machine(name), wheels, tmp_path_factory.mktemp(name))
                for name in names
            ]
        yield {suite: story.result() for suite, story in zip(SUITES, told, strict=True)}
    finally:
        subprocess.run([lab, "down", *names], check=True)


@pytest.fixture(params=SUITES)
def story(request: pytest.FixtureRequest, stories: dict[str, Story]) -> Story:
    return stories[request.param]
