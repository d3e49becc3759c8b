"""What `ttybridge discover` prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttybridge.model.ports import Port
from ttybridge.setup import yaml_text
from ttybridge.setup.discover.machine import Machine, read_machine
from ttybridge.setup.discover.proposal import Proposal, propose

# What no adapter knows: who is to reach the device behind it, and its line settings.
ADVICE = (
    "allow: [local] lets in the networks that the host is in. Write others as 192.0.2.0/24, or",
    "[any] for everyone who reaches the port.",
    "An entry without line settings has those of serial_ports_defaults in the inventory, else",
    f"baudrate {Port.baudrate}, bytesize {Port.bytesize}, parity {Port.parity}, "
    f"stopbits {Port.stopbits:g}, flow {Port.flow}: write those of the device.",
)

NOTHING_FOUND = """\
No serial adapter and no UART was found. To find out why:
  lsusb                   is the adapter there? If not, try another cable, socket or powered hub
  sudo dmesg | tail -30   right after plugging it in: which driver took it, or what went wrong
  lsmod | grep usbserial  is the driver loaded? pl2303, ftdi_sio, cp210x, ch341 or cdc_acm:
                          sudo modprobe NAME; if there is none, the kernel was upgraded: reboot
A Raspberry Pi's own UART appears with enable_uart=1 in config.txt, after a reboot."""


def report(as_json: bool = False, only_new: bool = False, root: Path = Path("/")) -> str:
    """Return what `ttybridge discover` prints: YAML for host_vars, or JSON with every fact.

    With `only_new` the YAML has only entries, for the end of a port map: those of ttys that nobody
    uses and ttyfleet does not serve yet. It is "" if there are none. `root` is the folder with
    sys/, proc/, dev/, run/ and etc/.
    """
    machine = read_machine(root)
    proposals = propose(machine)
    if only_new:
        new = [one for one in proposals if not (one.reserved or one.tty.by_name)]
        return "".join(f"  # {line}\n" for line in ADVICE if new) + to_entries(new)
    return to_json(machine, proposals) if as_json else to_yaml(machine, proposals)


def to_yaml(machine: Machine, proposals: Sequence[Proposal]) -> str:
    """The variable `serial_ports` as YAML for people, with comments."""
    lines = [f"# {' '.join(filter(None, (machine.host, _in_brackets(machine.model))))}"]
    lines += [f"# {note}" for note in machine.notes]
    if not machine.all_seen:
        lines.append(
            "# Only root sees the files of every process: another process may have a port open."
        )
    if not proposals:
        lines += [f"# {line}" for line in NOTHING_FOUND.splitlines()]
    else:
        lines.append("# Name each port after the device that is connected to it.")
        lines += [f"# {line}" for line in ADVICE]
    if all(proposal.reserved for proposal in proposals):
        # Without [] the value would be null, not a list.
        lines.append("serial_ports: []" + ("  # remove [] with the #" if proposals else ""))
    else:
        lines.append("serial_ports:")
    return "\n".join(lines) + "\n" + to_entries(proposals)


def to_entries(proposals: Sequence[Proposal]) -> str:
    """The entries, each after an empty line and comments about its tty."""
    lines = [line for one in proposals for line in ("", *_about(one), *_entry(one))]
    return "".join(f"{line}\n" for line in lines)


def _about(proposal: Proposal) -> Iterator[str]:
    tty = proposal.tty
    where = f"USB path {tty.adapter.path}" if tty.adapter else "a UART"
    yield f"  # {tty.device}, {where}" + (f", driver {tty.driver}" if tty.driver else "")
    if tty.adapter:
        yield f"  # {tty.adapter}"
    for link in (*tty.aliases, *tty.by_id[:1], *tty.by_path[:1]):
        yield f"  # {link}"
    yield f"  # Matched {proposal.match.why}."
    if proposal.match.alternative:
        yield f"  # Or {_inline(proposal.match.alternative)}, {proposal.match.alternative_why}."
    for warning in proposal.warnings:
        yield f"  # Warning: {warning}"
    for holder in tty.holders:
        yield f"  # In use: {holder.text}"
    if tty.by_name:
        yield "  # ttyfleet serves it already: keep the entry that you have."
    if proposal.reserved:
        yield "  # Not proposed because it is in use. To use it, remove the # from these lines:"


def _entry(proposal: Proposal) -> Iterator[str]:
    for line in yaml_text.entry(proposal.entry):
        yield f"  {'# ' if proposal.reserved else ''}{line}"


def _in_brackets(text: str) -> str:
    return f"({text})" if text else ""


def _inline(match: Mapping[str, Any]) -> str:
    """`usb: {...}` or `device: ...` on one line."""
    ((key, item),) = match.items()
    return yaml_text.pair(key, item)


def to_json(machine: Machine, proposals: Sequence[Proposal]) -> str:
    """JSON: {host, model, all_seen, notes, ports}; each port has every fact and its entry."""
    document = {
        "host": machine.host,
        "model": machine.model,
        "all_seen": machine.all_seen,
        "notes": machine.notes,
        "ports": [_as_object(proposal) for proposal in proposals],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_object(proposal: Proposal) -> dict[str, Any]:
    facts = dataclasses.asdict(proposal)
    tty = facts.pop("tty")
    return {"device": proposal.tty.device, **tty, "reserved": proposal.reserved, **facts}
