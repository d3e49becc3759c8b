"""Debian 13's ser2net, and what becomes of Debian's own configuration of it by `import`.

tests/interop tries the controller's ser2net. What it tries of `import` runs here too, with another
version, which reads one form only.
"""

from __future__ import annotations

import subprocess

from playbook import LAB, ROOT

HOST = "fresh-trixie"

# Without the settings of pyproject.toml, which want plugins that a Pi lacks.
TRY = r"""
set -e
exec 2>&1
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null
apt-get -qy install --no-install-recommends ser2net python3-serial \
  python3-pytest python3-jinja2 python3-yaml >/dev/null
folder=$(mktemp -d)
cd "$folder"
tar -x
ser2net -v
export PYTHONPATH=bridge/src
python3 -m pytest -q -c /dev/null --rootdir . tests/interop/test_import_debian.py
rm -r "$folder"
"""


def test_what_import_makes_of_debians_file_serves_as_ser2net_4_6_does() -> None:
    files = ["bridge/src", "templates", "tests/interop"]
    packed = subprocess.run(["tar", "-c", *files], cwd=ROOT, capture_output=True, check=True)
    done = subprocess.run(
        ["ssh", "-F", str(LAB / "ssh_config"), HOST, f"sudo sh -c '{TRY}'"],
        input=packed.stdout,
        capture_output=True,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    assert "ser2net version 4.6." in said
    # For each engine: all ports are taken, and they behave alike.
    assert "4 passed" in said
