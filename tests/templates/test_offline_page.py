"""docs/offline.md: its table has every package that the roles install."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_is_listed() -> None:
    script = (ROOT / "files" / "read_host.sh").read_text(encoding="utf-8")
    asked = re.search(r"dpkg-query .*?' (.*?) 2>", script.replace("\\\n", " "))
    assert asked
    page = (ROOT / "docs" / "offline.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"[a-z0-9-]+", " ".join(re.findall("^[|].*", page, re.MULTILINE))))
    assert {"python3-serial", "ser2net"} <= set(asked[1].split())
    # The plan names brltty where somebody has installed it; no run does.
    assert set(asked[1].split()) - listed == {"brltty"}
