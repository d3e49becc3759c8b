"""What a Raspberry Pi's config.txt and cmdline.txt must say so that ports have its own UARTs.

Texts in, texts out: nothing is read or written here. The facts are from the documentation at
raspberrypi.com ("Configure UARTs", "Conditional filters"), the overlays' README of the firmware,
and issue 6352 of raspberrypi/linux (since kernel 6.1, ttyAMA3 is UART 3, whichever others are on).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ttybridge.model.ports import Port

# What Bluetooth is to have where it takes the good UART: what it has now, the mini UART, nothing.
BLUETOOTH = ("keep", "mini", "off")

# A tty that is soldered on, by every name for it. ttySC0 and the like, of HATs, are not ours.
_ON_BOARD = re.compile(r"/dev/(ttyAMA\d+|ttyS\d+|serial\d+)")

_BEGIN = "# ttyfleet begin: from the port map; write your own lines below the end"
_END = "# ttyfleet end"
_BLOCK = re.compile(r"^# ttyfleet begin.*?^# ttyfleet end[^\n]*(\n|\Z)", re.MULTILINE | re.DOTALL)

_BLUETOOTH_OVERLAYS = {"disable-bt": "off", "miniuart-bt": "mini"}

# Pins that other lines of config.txt take, where they say nothing of pins themselves.
_TAKEN = {
    "dtparam=spi": range(7, 12),
    "dtparam=i2c": range(2, 4),
    "dtparam=i2c1": range(2, 4),
    "dtparam=i2c_arm": range(2, 4),
    "dtoverlay=w1-gpio": range(4, 5),
}

# The mini UART divides the core clock by eight times a 16-bit number (BCM2835 peripherals, 2.2.1).
_CORE_MHZ = 250


@dataclass(frozen=True)
class Boot:
    """What a host boots with.

    `model` is /proc/device-tree/model, "" where there is none. `folder` holds config.txt and
    cmdline.txt, "" where there is none. `kept` is cmdline.txt as it was before `plan` changed it,
    "" where it did not. `running` is the command line that the kernel was started with. `masked`
    are the units that are masked, `ours` those that were masked for `plan`. `reboot`: something was
    changed since the host was started.
    """

    model: str = ""
    folder: str = ""
    writable: bool = True
    config: str = ""
    cmdline: str = ""
    kept: str = ""
    running: str = ""
    hciuart: bool = False
    masked: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    reboot: bool = False


@dataclass(frozen=True)
class Plan:
    """What a host must boot with: the texts, the units, and what a person should know.

    With `faults` nothing may be written. `write` names the texts that differ from what is there.
    `mask` and `unmask` are what is to be done to units; `ours` are those masked for the port map
    afterwards.
    """

    config: str
    cmdline: str
    kept: str
    write: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    reboot: bool = False
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pi:
    """A kind of Raspberry Pi.

    `filters` are the sections of config.txt for it. `overlays` are the UARTs that an overlay
    enables, each with its overlay and pins; `bluetooth` says that Bluetooth has the PL011, so that
    the mini UART is at GPIO 14 and 15.
    """

    pattern: str
    filters: frozenset[str]
    overlays: dict[str, tuple[str, int]] = field(default_factory=dict)
    bluetooth: bool = False
    rp1: bool = False


_RP1 = {f"ttyAMA{n}": (f"uart{n}-pi5", pin) for n, pin in enumerate((14, 0, 4, 8, 12))}
_BCM2711 = {f"ttyAMA{n}": (f"uart{n}", pin) for n, pin in enumerate((0, 4, 8, 12), start=2)}

# The first that matches what stands behind "Raspberry Pi " in the model.
_PIS = (
    _Pi("Compute Module 5", frozenset({"pi5", "cm5"}), _RP1, rp1=True),
    _Pi("500", frozenset({"pi5", "pi500"}), _RP1, rp1=True),
    _Pi("5", frozenset({"pi5"}), _RP1, rp1=True),
    _Pi("Compute Module 4S", frozenset({"pi4", "cm4s"}), _BCM2711),
    _Pi("Compute Module 4", frozenset({"pi4", "cm4"}), _BCM2711, bluetooth=True),
    _Pi("400", frozenset({"pi4", "pi400"}), _BCM2711, bluetooth=True),
    _Pi("4", frozenset({"pi4"}), _BCM2711, bluetooth=True),
    _Pi("Compute Module 3", frozenset({"pi3"})),
    _Pi("3 Model [AB] Plus", frozenset({"pi3", "pi3+"}), bluetooth=True),
    _Pi("3", frozenset({"pi3"}), bluetooth=True),
    _Pi("Zero 2", frozenset({"pi0", "pi02"}), bluetooth=True),
    _Pi("Zero W", frozenset({"pi0", "pi0w"}), bluetooth=True),
    _Pi("Zero", frozenset({"pi0"})),
    _Pi("2", frozenset({"pi2"})),
    _Pi("Model|Compute Module Rev", frozenset({"pi1"})),
)

_MODEL_FILTERS = frozenset({"cm0"}).union(*(pi.filters for pi in _PIS))


@dataclass(frozen=True)
class _Line:
    """A line of config.txt that a person wrote: its number from 1, and its two sides."""

    number: int
    key: str
    value: str

    @property
    def words(self) -> dict[str, str]:
        """The value's words: the name of an overlay, parameters with what they are set to."""
        parts = [part.partition("=") for part in re.split("[,:]", self.value)]
        return {name.strip(): value.strip() for name, _, value in parts}

    def __str__(self) -> str:
        return f"config.txt line {self.number} ({self.key}={self.value})"


@dataclass(frozen=True)
class _Need:
    """What one port asks for: lines of config.txt, names of its UART in cmdline.txt, units.

    `pins` are the GPIOs of its UART, each with the port and its device.
    """

    lines: tuple[str, ...] = ()
    pins: tuple[tuple[int, str], ...] = ()
    consoles: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def on_board(path: str) -> bool:
    """Whether a device is a UART of the machine itself, by its path."""
    return bool(_ON_BOARD.fullmatch(path))


def without_block(config: str) -> str:
    """config.txt as it is without the block that `with_block` puts in, byte for byte."""
    return _BLOCK.sub("", config)


def with_block(config: str, lines: Sequence[str]) -> str:
    """config.txt with `lines` in a block of our own, or without one where there are no lines.

    The block is the first thing in the file: there its [all] changes the section of no line of the
    user's, neither now nor when it is taken out again.
    """
    own = without_block(config)
    if not lines:
        return own
    return "\n".join([_BEGIN, "[all]", *lines, _END, own])


def without_consoles(cmdline: str, names: Iterable[str]) -> str:
    """cmdline.txt without the consoles (and kernel debuggers) at ttys of these names.

    Where no console is left, the screen becomes it: without any, the kernel takes the one that the
    device tree names, which is a UART. Only the first line of the file counts.
    """
    line, rest = _first_line(cmdline)
    ttys = "|".join(map(re.escape, names))
    words = re.compile(rf"(?<!\S)(console|kgdboc)=({ttys})(,\S*)?(?!\S)\s*")
    first = words.search(line)
    if not ttys or first is None:
        return cmdline
    left = words.sub("", line)
    if not re.search(r"(?<!\S)console=", left):
        left = f"{left[: first.start()]}console=tty1 {left[first.start() :]}"
    return left.rstrip() + rest


def with_consoles(cmdline: str, kept: str) -> str:
    """cmdline.txt with the consoles back that `without_consoles` took from `kept`.

    It is `kept` itself where nothing else was changed since; what was added since stays.
    """
    line, rest = _first_line(cmdline)
    kept_line, kept_rest = _first_line(kept)
    before, now = kept_line.split(), line.split()
    if not any(re.match("console=(?!ttyAMA|ttyS|serial)", word) for word in before):
        now = [word for word in now if word != "console=tty1"]
    gone = [word for word in before if re.match("(console|kgdboc)=", word) and word not in now]
    for word in reversed(gone):
        after = before[before.index(word) + 1 :]
        now.insert(next((now.index(other) for other in after if other in now), len(now)), word)
    if (now, rest) == (before, kept_rest):
        return kept
    return cmdline if now == line.split() else " ".join(now) + rest


def _first_line(text: str) -> tuple[str, str]:
    """The first line of a text, and its end with all that follows."""
    line = re.split("[\r\n]", text, maxsplit=1)[0]
    return line, text[len(line) :]


def plan(boot: Boot, ports: Sequence[Port], bluetooth: str = "keep") -> Plan:
    """What `boot` must become so that `ports` have the UARTs that they name.

    What no port asks for (any more) is as it was before. Where the user's own lines say the
    opposite, a fault names them. `ValueError` where `bluetooth` is none of `BLUETOOTH`.
    """
    if bluetooth not in BLUETOOTH:
        raise ValueError(f"uart_bluetooth: {bluetooth!r}: write one of {', '.join(BLUETOOTH)}")
    wanted = [port for port in ports if on_board(port.path)]
    pi = _pi(boot)
    if pi is None:
        needs = [_need_of_unknown(port, boot) for port in wanted]
    else:
        lines = _lines(boot.config, pi)
        needs = [_need(port, pi, lines, bluetooth, boot.hciuart) for port in wanted]
    return _merge(boot, needs)


def _pi(boot: Boot) -> _Pi | None:
    """The kind of Raspberry Pi; None where it is none, or one that is not known here."""
    if not boot.folder:
        return None
    return next(
        (pi for pi in _PIS if re.match(rf"Raspberry Pi ({pi.pattern})\b", boot.model)), None
    )


def _merge(boot: Boot, needs: Sequence[_Need]) -> Plan:
    def all_of(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item for need in needs for item in getattr(need, name)))

    before = with_consoles(boot.cmdline, boot.kept) if boot.kept else boot.cmdline
    cmdline = without_consoles(before, all_of("consoles")) if boot.folder else before
    texts = {
        "config": with_block(boot.config, all_of("lines")),
        "cmdline": cmdline,
        "kept": "" if cmdline == before else before,
    }
    write = tuple(name for name, text in texts.items() if text != getattr(boot, name))
    reboot = boot.reboot or "config" in write or "cmdline" in write
    units = sorted(all_of("units"))
    mask = tuple(unit for unit in units if unit not in boot.masked)
    return Plan(
        **texts,
        write=write,
        mask=mask,
        unmask=tuple(unit for unit in boot.ours if unit not in units),
        ours=tuple(unit for unit in units if unit in mask or unit in boot.ours),
        reboot=reboot,
        # Once: with the change that they are about, and until it is in force.
        warnings=(all_of("warnings") if reboot or mask else ())
        + (() if reboot else tuple(_consoles(boot, all_of("consoles")))),
        faults=(*all_of("faults"), *_shared(needs), *(_unwritable(boot) if write else ())),
    )


def _shared(needs: Sequence[_Need]) -> Iterable[str]:
    """Ports whose UARTs have a GPIO in common."""
    for at, need in enumerate(needs):
        for other in needs[:at]:
            first, second = dict(other.pins), dict(need.pins)
            if common := sorted(first.keys() & second.keys()):
                ports = f"{first[common[0]]} and {second[common[0]]}"
                if first[common[0]] != second[common[0]]:
                    yield f"{ports} both use GPIO {', '.join(map(str, common))}"


def _unwritable(boot: Boot) -> tuple[str, ...]:
    if boot.config.startswith("DO NOT EDIT THIS FILE"):
        return (
            f"{boot.folder}/config.txt only says that the file is elsewhere: "
            "mount /boot/firmware (sudo mount /boot/firmware)",
        )
    if "# ttyfleet begin" in without_block(boot.config):
        return (f"{boot.folder}/config.txt: '# ttyfleet begin' without its end: delete that line",)
    if not boot.writable:
        return (
            f"{boot.folder} is read-only: make it writable "
            "(sudo raspi-config, Performance Options, Overlay File System)",
        )
    return ()


def _consoles(boot: Boot, names: Sequence[str]) -> Iterable[str]:
    """UARTs that are the kernel's console although no file here says so."""
    for name in re.findall(r"(?<!\S)console=(tty\w+)", boot.running):
        if name in names:
            yield (
                f"/dev/{name} is the kernel's console: take console={name} off the kernel's "
                "command line, in the boot loader's configuration"
            )


def _getty(name: str) -> str:
    return f"serial-getty@{name}.service"


def _need_of_unknown(port: Port, boot: Boot) -> _Need:
    """What a port needs where it is not known which UARTs there are.

    The one at GPIO 14 and 15 is enabled alike on every model so far.
    """
    name = port.path.removeprefix("/dev/")
    if boot.folder and name in ("serial0", "ttyAMA0", "ttyS0"):
        return _need_of_unknown_header(port, name, boot)
    unknown = (
        f"port {port.name}: {boot.model}: ttyfleet does not know its UARTs"
        if boot.folder
        else f"port {port.name}: {boot.model} without a config.txt in /boot/firmware or /boot"
    )
    told = (f"{unknown}: enable {port.path} yourself",) if "Raspberry Pi" in boot.model else ()
    return _Need(consoles=(name,), units=(_getty(name),), warnings=told)


def _need_of_unknown_header(port: Port, name: str, boot: Boot) -> _Need:
    enable = _last(_lines(boot.config, _Pi("", frozenset())), "enable_uart")
    on = _is_on(enable)
    return _Need(
        lines=() if on else ("enable_uart=1",),
        consoles=(name, "serial0") if name != "serial0" else ("serial0", "ttyAMA0", "ttyS0"),
        units=tuple(dict.fromkeys((_getty(name), _getty("serial0")))),
        warnings=(
            f"port {port.name}: {boot.model or 'a machine with a config.txt'}: ttyfleet does not "
            f"know its UARTs; see that {port.path} is the one that enable_uart=1 gives",
        ),
        faults=()
        if on or not enable
        else (
            f"port {port.name}: device: {port.path}: {enable} switches this UART off: delete it",
        ),
    )


def _lines(config: str, pi: _Pi) -> list[_Line]:
    """The user's own lines of config.txt that count on this Raspberry Pi.

    Filters other than a model's (a serial number, a pin, a monitor) are taken as not fulfilled.
    """
    # Blank lines in place of our block keep the numbers those of the file.
    text = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), config)
    lines, model, others = [], True, True
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip().lstrip("\ufeff")
        if section := re.fullmatch(r"\[(.*)\]", line):
            name = section[1].lower()
            if name in _MODEL_FILTERS:
                model = name in pi.filters
            elif name == "all":
                model = others = True
            else:
                others = False
        elif model and others and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            lines.append(_Line(number, key.strip(), value.strip()))
    return lines


def _last(lines: Sequence[_Line], key: str, word: str = "") -> _Line | None:
    """The line that decides on a key, or on a parameter or an overlay of that name."""
    found = [line for line in lines if line.key == key and (not word or word in line.words)]
    return found[-1] if found else None


def _overlay(lines: Sequence[_Line], name: str) -> _Line | None:
    """The user's line that loads an overlay, also by its older or shorter name."""
    names = (name, f"pi3-{name}", name.removesuffix("-pi5"))
    found = [line for line in lines if line.key == "dtoverlay" and next(iter(line.words)) in names]
    return found[-1] if found else None


def _need(port: Port, pi: _Pi, lines: Sequence[_Line], bluetooth: str, hciuart: bool) -> _Need:
    name = port.path.removeprefix("/dev/")
    if name in pi.overlays:
        return _need_of_overlay(port, name, pi, lines)
    if pi.rp1 and name == "ttyAMA10":  # the debug connector, which is always enabled
        return _Need(consoles=(name, "serial0"), units=(_getty(name),))
    if pi.rp1 and name == "serial0":
        return _refused(
            port,
            "what this is depends on the boot loader of this model; write /dev/ttyAMA0 "
            "(GPIO 14 and 15) or /dev/ttyAMA10 (the debug connector)",
        )
    if not pi.rp1 and name in ("ttyAMA0", "ttyS0", "serial0"):
        return _need_of_header(port, name, pi, lines, bluetooth, hciuart)
    if name.startswith("ttyS"):
        told = (
            f"port {port.name}: {port.path} is none of this model's own UARTs, which are "
            f"{_ttys(pi)}: a card must bring it",
        )
        return _Need(consoles=(name,), units=(_getty(name),), warnings=told)
    return _refused(port, f"this model has no such UART; write one of {_ttys(pi)}")


def _ttys(pi: _Pi) -> str:
    first = "ttyAMA10" if pi.rp1 else "serial0"
    return ", ".join(f"/dev/{name}" for name in (first, *pi.overlays))


def _refused(port: Port, problem: str) -> _Need:
    return _Need(faults=(f"port {port.name}: device: {port.path}: {problem}",))


def _need_of_overlay(port: Port, name: str, pi: _Pi, lines: Sequence[_Line]) -> _Need:
    """A UART that an overlay enables, with its handshake lines where the port uses them."""
    overlay, pin = pi.overlays[name]
    handshake = port.flow == "rtscts"
    pins = range(pin, pin + (4 if handshake else 2))
    own = _overlay(lines, overlay)
    param = _last(lines, "dtparam", "uart0") if name == "ttyAMA0" else None
    console = _last(lines, "dtparam", "uart0_console") if name == "ttyAMA0" else None
    faults = list(_clashes(lines, pins))
    if param and param.words["uart0"] in ("off", "no", "0"):
        faults.append(f"{param} switches this UART off: delete it")
    if own and handshake and "ctsrts" not in own.words:
        faults.append(f"{own} leaves out RTS and CTS, which flow: rtscts needs: add ,ctsrts to it")
    enabled = own or console or (param and not handshake)
    moved = console or _is_on(_last(lines, "enable_uart"))
    return _Need(
        lines=() if enabled else (f"dtoverlay={overlay}{',ctsrts' if handshake else ''}",),
        pins=_pins(port, pins),
        # With either, the boot loader may take serial0 for this UART (dtparam of the base DTB).
        consoles=(name, "serial0") if name == "ttyAMA0" and moved else (name,),
        units=(_getty(name),),
        faults=tuple(f"port {port.name}: device: {port.path}: {fault}" for fault in faults),
    )


def _pins(port: Port, pins: range) -> tuple[tuple[int, str], ...]:
    return tuple((pin, f"port {port.name} ({port.path})") for pin in pins)


def _is_on(line: _Line | None) -> bool:
    return line is not None and line.value == "1"


def _clashes(lines: Sequence[_Line], pins: range) -> Iterable[str]:
    """What the user's own lines use of the pins."""
    for line in lines:
        for word, value in line.words.items():
            taken = set(_TAKEN.get(f"{line.key}={word}", ())) & set(pins)
            if taken and value not in ("off", "no", "0") and "gpiopin" not in line.words:
                shown = ", ".join(map(str, sorted(taken)))
                yield f"{line} uses GPIO {shown}, which are this UART's: delete one of the two"


def _need_of_header(
    port: Port, name: str, pi: _Pi, lines: Sequence[_Line], bluetooth: str, hciuart: bool
) -> _Need:
    """The UART at GPIO 14 and 15 of a Raspberry Pi before the 5: the PL011 or the mini UART."""
    own = {
        use: line for over, use in _BLUETOOTH_OVERLAYS.items() if (line := _overlay(lines, over))
    }
    if not pi.bluetooth:
        use = "none"
    elif bluetooth == "keep":
        use = next(iter(own), "keep")
    else:
        use = bluetooth
    header = "ttyS0" if use == "keep" else "ttyAMA0"
    if name not in ("serial0", header):
        return _refused(port, _elsewhere(name, use))
    contrary = [line for other, line in own.items() if other != use and pi.bluetooth]
    faults = [
        f"{line} contradicts uart_bluetooth: {use}: delete one of the two" for line in contrary
    ]
    enable = _last(lines, "enable_uart")
    if enable and not _is_on(enable):
        faults.append(f"{enable} switches this UART off: delete it")
    uart = "uart1" if header == "ttyS0" else "uart0"
    param = _last(lines, "dtparam", uart)
    if param and param.words[uart] in ("off", "no", "0"):
        faults.append(f"{param} switches this UART off: delete it")
    warnings = []
    if header == "ttyS0":
        faults += _mini_faults(port, lines)
        warnings.append(
            "the mini UART's baudrate follows the core clock, which enable_uart=1 fixes; should "
            "characters come garbled, add core_freq=250 to config.txt or have uart_bluetooth: off"
        )
    if use == "mini" and not (_last(lines, "core_freq") or _last(lines, "force_turbo")):
        warnings.append(
            "Bluetooth at the mini UART wants a fixed core clock: add core_freq=250 or "
            "force_turbo=1 to config.txt"
        )
    if port.flow == "rtscts" and not _last(lines, "gpio"):
        alternative = "a5" if header == "ttyS0" else "a3"
        warnings.append(
            f"RTS and CTS are at GPIO 17 and 16 once config.txt has gpio=16-17={alternative}"
        )
    overlay = next((over for over, value in _BLUETOOTH_OVERLAYS.items() if value == use), "")
    return _Need(
        lines=(
            *(() if _is_on(enable) else ("enable_uart=1",)),
            *((f"dtoverlay={overlay}",) if overlay and use not in own else ()),
        ),
        pins=_pins(port, range(14, 16)),
        # The firmware reads ttyAMA0 there as whichever UART is at the pins.
        consoles=tuple(dict.fromkeys((header, "serial0", "ttyAMA0"))),
        units=(
            _getty(header),
            _getty("serial0"),
            *(("hciuart.service",) if use == "off" and hciuart else ()),
        ),
        warnings=tuple(f"port {port.name}: {warning}" for warning in warnings),
        faults=tuple(f"port {port.name}: device: {port.path}: {fault}" for fault in faults),
    )


def _elsewhere(name: str, use: str) -> str:
    """Why a UART of this name is not at the pins."""
    if use == "keep":
        return (
            "Bluetooth has this UART; have uart_bluetooth: off, or mini (Bluetooth then has the "
            "mini UART), or write /dev/ttyS0 for the mini UART"
        )
    taken = "Bluetooth has this UART" if use == "mini" else "this UART is at no pins"
    return f"{taken}; write /dev/ttyAMA0, which is at GPIO 14 and 15"


def _mini_faults(port: Port, lines: Sequence[_Line]) -> Iterable[str]:
    """What a port asks of the mini UART that it cannot do."""
    instead = "have uart_bluetooth: off and device: /dev/ttyAMA0"
    if port.parity != "none":
        yield f"the mini UART has no parity bit: {instead}"
    if port.stopbits != 1:
        yield f"the mini UART has one stop bit only: {instead}"
    if port.bytesize < 7:
        yield f"the mini UART has 7 or 8 data bits only: {instead}"
    core = _last(lines, "core_freq")
    mhz = int(core.value) if core and core.value.isdecimal() else _CORE_MHZ
    least = mhz * 1_000_000 // (8 * 65536) + 1
    if port.baudrate < least:
        yield f"the mini UART has no baudrate below {least} at a core clock of {mhz} MHz: {instead}"
