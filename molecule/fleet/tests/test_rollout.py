"""A fleet is provisioned and changed: what a run shows, where it stops, and what it leaves."""

from __future__ import annotations

import re

import pytest

from racks import (
    BUSY,
    CANARY,
    GUARDED,
    HOSTS,
    NO_APT,
    OFF,
    OTHER,
    PLAIN,
    SER2NET_ONLY,
    TLS,
    batches,
    goes_on,
    served_baudrate,
    summary,
)
from state import Run, State, ssh

TTYBRIDGE = "etc/ttybridge/ttybridge.toml"
OF_SUITE = {
    "bookworm": {"etc/ser2net.conf", "etc/ttyfleet-ser2net.yaml"},
    "trixie": {"etc/ser2net.yaml"},
}
SER2NET = OF_SUITE["bookworm"] | OF_SUITE["trixie"]


def test_a_second_run_changes_nothing_and_is_short(first: Run, second: Run) -> None:
    assert second.status == 0, second.output
    assert "8 hosts: 8 as they should be" in second.output
    assert "changed=" in second.output
    assert not re.search(r"changed=[1-9]", second.output), second.output
    assert len(second.output.splitlines()) <= 45, second.output
    for host in HOSTS:
        assert first.after[host].changes(second.after[host]) == {}
        assert first.after[host].pids == second.after[host].pids


def test_a_canary_that_fails_serves_as_before(second: Run, canary: Run) -> None:
    before, after = second.after[CANARY], canary.after[CANARY]
    assert before.changes(after) == {}
    assert after.pids["ttybridge"] != "0"
    assert before.pids["ser2net"] == after.pids["ser2net"]
    assert not any("last-good" in file for file in after.files)


def test_no_other_host_is_touched_where_the_canary_fails(second: Run, canary: Run) -> None:
    for host in HOSTS[1:]:
        assert second.after[host].changes(canary.after[host]) == {}
        assert second.after[host].pids == canary.after[host].pids


def test_the_summary_names_the_canary_and_those_that_were_not_reached(canary: Run) -> None:
    assert canary.status != 0
    said = summary(canary)
    assert said.keys() == {*HOSTS}, canary.output
    assert said[CANARY].startswith("went back to its last good state"), said[CANARY]
    assert "RuntimeError: no ports today" in said[CANARY]
    assert {said[host] for host in HOSTS[1:]} == {"not changed: the run stopped before its end"}


# Programs that fail, and what the summary says of them.
REASONS = {
    "cannot serve": "this program cannot serve here: RuntimeError: no port of mine",
    "serves too little": "port ups: listen 10002: ttybridge does not listen",
    "never says that it is ready": "Restart ttybridge: Unable to restart service",
    "hangs": "port console: listen 10001: ttybridge does not say what it serves",
}


@pytest.mark.parametrize("fault", REASONS)
def test_a_program_that_fails_leaves_each_host_serving_as_before(
    fault: str, second: Run, faulty: dict[str, Run]
) -> None:
    run = faulty[fault]
    assert run.status != 0
    assert summary(run).keys() == {PLAIN, OTHER}, run.output
    for host in (PLAIN, OTHER):
        assert second.after[host].changes(run.after[host]) == {}, run.output
        assert run.after[host].pids["ser2net"] == second.after[host].pids["ser2net"]
        assert re.match(r"went back to its last good state( \(.+\))?: ", summary(run)[host])
        assert REASONS[fault] in summary(run)[host]


def test_a_program_that_fails_its_trial_disconnects_nobody(
    canary: Run, faulty: dict[str, Run]
) -> None:
    for host in (PLAIN, OTHER):
        assert faulty["cannot serve"].after[host].pids == canary.after[host].pids


def test_a_device_that_somebody_has_does_not_stop_an_upgrade(resumed: Run) -> None:
    assert resumed.status == 0, resumed.output
    assert "ups is released" not in resumed.output
    assert ssh(OTHER, "ttybridge reclaim ups").strip() == "ups: taken back"


def test_the_command_that_the_summary_names_goes_on(resumed: Run) -> None:
    assert resumed.status == 0, resumed.output
    assert "8 hosts changed, and all of their ports serve." in resumed.output
    assert batches(resumed) == 3
    for host in HOSTS:
        assert "ttybridge-99.0+" in resumed.after[host].files["usr/local/bin/ttybridge"]


def test_a_host_in_trouble_does_not_stop_the_others(resumed: Run, troubled: Run) -> None:
    in_trouble = [OFF, GUARDED, NO_APT]
    for host in HOSTS:
        changed = resumed.after[host].changes(troubled.after[host])
        has_bridge = {TTYBRIDGE} - ({TTYBRIDGE} if host == SER2NET_ONLY else set())
        if host in in_trouble:
            assert {name for name in changed if "uvloop" not in name} == set(), host
        else:
            assert changed.keys() - SER2NET == has_bridge, troubled.output
            assert changed.keys() & SER2NET == OF_SUITE[host.rpartition("-")[2]], host


def test_each_host_in_trouble_is_named_at_the_end(troubled: Run) -> None:
    assert troubled.status != 0
    said = summary(troubled)
    assert said.keys() == {OFF, GUARDED, NO_APT}, troubled.output
    assert said[OFF].startswith("cannot be reached: "), said
    assert said[GUARDED].startswith("cannot become root there: Missing sudo password"), said
    assert said[NO_APT].startswith("went back to its last good state: "), said
    assert "python3-uvloop could not be installed" in said[NO_APT]
    assert {*goes_on(troubled)[-1].split(",")} == said.keys()


def test_a_run_that_was_cut_is_finished_by_the_next(interrupted: list[Run]) -> None:
    finishing, after = interrupted
    assert finishing.status == 0, finishing.output
    assert f"{PLAIN}: ! finishes what an interrupted run began" in finishing.output
    assert "1 host: 1 as it should be" in after.output
    assert served_baudrate(PLAIN) == "9600"
    assert not any("last-good" in file for file in finishing.after[PLAIN].files)


def test_a_host_that_is_lost_after_it_was_read_is_named(troubled: Run, lost: Run) -> None:
    assert lost.status != 0
    assert summary(lost).keys() == {SER2NET_ONLY}, lost.output
    assert summary(lost)[SER2NET_ONLY].startswith("not changed: cannot be reached: ")
    changed = troubled.after[OTHER].changes(lost.after[OTHER])
    assert changed.keys() == {TTYBRIDGE, "etc/ser2net.yaml"}
    assert troubled.after[SER2NET_ONLY].changes(lost.after[SER2NET_ONLY]) == {}


def test_a_port_of_ser2net_in_use_is_skipped(troubled: Run, busy: list[Run]) -> None:
    skipped = busy[0]
    assert troubled.after[BUSY].changes(skipped.after[BUSY]).keys() == {TTYBRIDGE}
    assert skipped.after[BUSY].pids == troubled.after[BUSY].pids
    assert re.match(
        r"ser2net was left as it is \(busy: skip\): switch: [\d.]+:\d+$", summary(skipped)[BUSY]
    ), skipped.output


def test_a_port_of_ser2net_in_use_is_waited_for(busy: list[Run]) -> None:
    skipped, in_vain, waited = busy
    assert in_vain.status != 0
    assert "after 5 s its ports are still in use: switch: " in summary(in_vain)[BUSY]
    assert skipped.after[BUSY].changes(in_vain.after[BUSY]) == {}
    assert waited.status == 0, waited.output
    changed = in_vain.after[BUSY].changes(waited.after[BUSY])
    assert changed.keys() == {"etc/ser2net.yaml"}


def test_a_run_with_a_tag_touches_what_it_names(troubled: Run, tagged: Run) -> None:
    assert tagged.status == 0, tagged.output
    changed = troubled.after[TLS].changes(tagged.after[TLS])
    rules = {f"etc/udev/rules.d/{name}-ttyfleet.rules" for name in ("60", "zz")}
    assert changed.keys() == rules
    assert troubled.after[TLS].pids == tagged.after[TLS].pids


def test_a_roll_out_that_says_nothing_is_refused(tagged: Run, misspelt: Run) -> None:
    assert misspelt.status != 0
    assert "some: write the size of each batch, as a number of hosts or a percentage" in (
        " ".join(misspelt.output.split())
    )
    assert "Traceback" not in misspelt.output
    assert tagged.after[TLS].changes(misspelt.after[TLS]) == {}


def test_hosts_are_changed_two_at_a_time(settled: Run) -> None:
    assert settled.status == 0, settled.output
    assert "8 hosts: 5 as they should be, 3 to change" in settled.output
    assert batches(settled) == 2


def test_the_package_comes_once_apt_works(troubled: Run, settled: Run) -> None:
    assert "python3-uvloop" not in installed(troubled.after[NO_APT])
    assert "python3-uvloop" in installed(settled.after[NO_APT])


def installed(after: State) -> set[str]:
    return {name for name, status in after.packages.items() if status == "installed"}
