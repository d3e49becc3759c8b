"""What differs between wanted files and those of a host."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ttybridge.setup.plan.files import differences, found, sha256, strongest

TEXT = {"path": "/etc/a.conf", "content": "one\n"}
SUM = hashlib.sha256(b"one\n").hexdigest()
ROOT = {"mode": "0644", "owner": "root", "group": "root"}
FILE = {**ROOT, "kind": "file", "sha256": SUM}


def lines(wanted: dict[str, Any], there: dict[str, Any] | None) -> list[str]:
    return [one.line for one in differences([wanted], {wanted["path"]: there} if there else {})]


@pytest.mark.parametrize(
    ("wanted", "there", "line"),
    [
        (TEXT, None, "+ /etc/a.conf"),
        (TEXT, {**FILE, "sha256": "0"}, "~ /etc/a.conf (content)"),
        (TEXT, {**FILE, "mode": "0600"}, "~ /etc/a.conf (mode 0600)"),
        (TEXT, {**FILE, "owner": "pi", "group": "pi"}, "~ /etc/a.conf (owner pi, group pi)"),
        (TEXT, {**ROOT, "kind": "link", "target": "/x"}, "~ /etc/a.conf (is a link)"),
        ({**TEXT, "mode": "0755"}, FILE, "~ /etc/a.conf (mode 0644)"),
        ({"path": "/d", "kind": "directory"}, None, "+ /d"),
        ({"path": "/d", "kind": "directory"}, {**ROOT, "kind": "directory"}, "~ /d (mode 0644)"),
        ({"path": "/l", "kind": "link", "target": "/new"}, None, "+ /l"),
        (
            {"path": "/l", "kind": "link", "target": "/new"},
            {**ROOT, "kind": "link", "target": "/old"},
            "~ /l (leads to /old)",
        ),
        ({"path": "/g", "kind": "absent"}, FILE, "- /g"),
    ],
)
def test_a_difference_is_named(
    wanted: dict[str, Any], there: dict[str, Any] | None, line: str
) -> None:
    assert lines(wanted, there) == [line]


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (TEXT, FILE),
        ({"path": "/d", "kind": "directory"}, {**ROOT, "mode": "0755", "kind": "directory"}),
        (
            {"path": "/l", "kind": "link", "target": "/new"},
            {**ROOT, "mode": "0777", "kind": "link", "target": "/new"},
        ),
        ({"path": "/g", "kind": "absent"}, None),
        ({"path": "/u", "kind": "unmanaged"}, FILE),
        ({"path": "/u", "kind": "unmanaged"}, None),
    ],
)
def test_what_is_as_wanted_does_not_differ(
    wanted: dict[str, Any], there: dict[str, Any] | None
) -> None:
    assert lines(wanted, there) == []


def test_a_file_is_known_by_its_content_its_source_or_its_checksum(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("one\n")
    assert sha256(TEXT) == sha256({"path": "/x", "source": str(source)}) == SUM
    assert sha256({"path": "/x", "source": str(source), "sha256": "given"}) == "given"


def test_what_was_read_becomes_files_by_path() -> None:
    read = {
        "files": [
            {**ROOT, "path": "/f", "type": "f"},
            {**ROOT, "path": "/l", "type": "l"},
            {**ROOT, "path": "/d", "type": "d"},
            {**ROOT, "path": "/s", "type": "s"},
        ],
        "checksums": {"/f": SUM},
        "targets": {"/l": "/f"},
    }
    files = found(read)
    assert [files[path]["kind"] for path in files] == ["file", "link", "directory", "special file"]
    assert files["/f"]["sha256"] == SUM
    assert files["/l"]["target"] == "/f"


def test_a_restart_includes_a_reload() -> None:
    assert strongest({"reload", "", "restart"}) == "restart"
    assert strongest({"", "reload"}) == "reload"
    assert strongest(set()) == ""
