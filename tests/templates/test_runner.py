"""The playbooks in ansible-runner, which AWX starts them with: they are the same there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORT = "{name: a, device: /dev/ttyS1, listen: 2001}"


def run(folder: Path, playbook: str, port: str, *words: str) -> tuple[int, str]:
    """Run a playbook as a job of ansible-runner; its exit status, and what it printed."""
    (folder / "inventory" / "host_vars").mkdir(parents=True)
    (folder / "inventory" / "hosts.yml").write_text("serial_servers: {hosts: {pi: }}\n")
    (folder / "inventory" / "host_vars" / "pi.yml").write_text(f"serial_ports: [{port}]\n")
    job = ("run", str(folder), "--project-dir", str(ROOT), "--playbook", playbook)
    options = ("--cmdline", " ".join(words)) if words else ()
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-runner"), *job, *options],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_sound_port_map(tmp_path: Path) -> None:
    status, printed = run(tmp_path, "portmap.yml", PORT)
    assert "1 host, 1 port: no fault." in printed
    assert status == 0


def test_a_faulty_port_map(tmp_path: Path) -> None:
    status, printed = run(tmp_path, "playbook.yml", PORT.replace("2001", "70000"))
    assert "pi: port a: listen: 70000" in printed
    assert status != 0


def test_a_playbook_that_writes_files(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ("-e", "format=csv", "-e", f"export_dir={folder}")
    status, printed = run(tmp_path, "export.yml", PORT, *words)
    assert status == 0, printed
    assert [file.name for file in folder.iterdir()] == ["ports.csv"]
