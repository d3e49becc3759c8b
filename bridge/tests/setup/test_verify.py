"""What verify.yml prints, from what the role verify notes of each host."""

from __future__ import annotations

from typing import Any

from ttybridge.setup.table import table
from ttybridge.setup.verify import report


def noted(**facts: Any) -> dict[str, Any]:
    """A host without faults."""
    return {
        **{"verify_unreadable": "", "verify_findings": [], "verify_differing": []},
        **{"verify_further": [], "serial_ports_checked": [], **facts},
    }


SOUND = {**{"about": "port sw", "port": "sw", "listen": "9999"}, "result": "listens", "todo": ""}


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([("PORT", "A", "B"), ("sw", "", "longer"), ("a-long-name", "x", "")]) == (
        "PORT         A  B\nsw              longer\na-long-name  x"
    )


def test_an_optional_column_is_left_out_if_it_is_empty() -> None:
    assert table([("A", "B", "C"), ("1", "", "3")], optional="B") == "A  C\n1  3"
    assert table([("A", "B", "C"), ("1", "2", "3")], optional="B") == "A  B  C\n1  2  3"
    assert table([("A", "B")], optional="B") == "A"


def test_ports_that_are_right() -> None:
    hosts = {"pi-1": noted(verify_findings=[SOUND]), "pi-2": noted()}
    assert report(["pi-1", "pi-2"], hosts) == {
        "table": "HOST  PORT  LISTEN  RESULT\npi-1  sw    9999    listens",
        "faults": [],
    }


def test_all_that_can_be_wrong_with_a_host() -> None:
    wrong = {**SOUND, "result": "ttybridge does not listen", "todo": "run playbook.yml"}
    host = noted(
        verify_findings=[SOUND, wrong],
        verify_differing=["the udev rules", "ttybridge's unit"],
        verify_further=["has not been rebooted; run sudo reboot there"],
    )
    found = report(["pi"], {"pi": host})
    differs = "not as the inventory says: the udev rules, ttybridge's unit"
    assert found["table"].splitlines()[1:] == [
        "pi    sw    9999    listens",
        "pi    sw    9999    ttybridge does not listen",
        f"pi    -     -       {differs}",
        "pi    -     -       has not been rebooted",
    ]
    assert found["faults"] == [
        "pi: port sw: ttybridge does not listen; run playbook.yml",
        f"pi: {differs}; run playbook.yml (--diff shows what it writes)",
        "pi: has not been rebooted; run sudo reboot there",
    ]


def test_a_host_that_was_not_read_back() -> None:
    ports = [
        {"name": "sw", "endpoint": "9999", "about": ""},
        {"name": "ups", "endpoint": "-> pc:1", "about": ""},
    ]
    host = {
        **noted(
            serial_ports_checked=ports, verify_unreadable="cannot be reached\nsee that it is on"
        )
    }
    found = report(["pi"], {"pi": host})
    assert found["table"].splitlines()[1:] == [
        "pi    sw    9999     host not read back",
        "pi    ups   -> pc:1  host not read back",
    ]
    assert found["faults"] == ["pi: cannot be reached", "pi: see that it is on"]
    host = {**host, "verify_unreadable": "not provisioned yet", "verify_provisioned": False}
    assert "not provisioned yet" in report(["pi"], {"pi": host})["table"]
