"""What a Raspberry Pi's config.txt and cmdline.txt must say so that ports have its own UARTs.

Texts in, texts out: this module reads and writes no files. The facts come from the documentation
at raspberrypi.com ("Configure UARTs", "Conditional filters"), the firmware's README of overlays,
and issue 6352 of raspberrypi/linux (since kernel 6.1, ttyAMA3 is always UART 3).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ttybridge.model.ports import Port
from ttybridge.setup.config_txt import Line, last, loaded, names_of, uses

# What Bluetooth gets on models where it has the PL011: that one as before, the mini UART, nothing.
BLUETOOTH = ("keep", "mini", "off")

# A UART of the board, by each of its names. UARTs of HATs, such as ttySC0, are not among them.
_ON_BOARD = re.compile(r"/dev/(ttyAMA\d+|ttyS\d+|serial\d+)")

_BEGIN = "# ttyfleet begin: from the port map; write your own lines below the end"
_END = "# ttyfleet end"
_BLOCK = re.compile(r"^# ttyfleet begin.*?^# ttyfleet end[^\n]*(\n|\Z)", re.MULTILINE | re.DOTALL)

_BLUETOOTH_OVERLAYS = {"disable-bt": "off", "miniuart-bt": "mini"}

# The mini UART divides the core clock by eight times a 16-bit number (BCM2835 peripherals, 2.2.1).
_CORE_MHZ = 250


@dataclass(frozen=True)
class Boot:
    """What a host boots with.

    `model` is /proc/device-tree/model, or "". `folder` holds config.txt and cmdline.txt; it is ""
    if the host has no such files. `kept` is cmdline.txt from before the first plan changed it, or
    "". `running` is the command line of the running kernel. `masked` are all masked units, `ours`
    those that an earlier plan masked. `reboot` says that the files changed since the host started.
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
    """What a host must boot with: texts, units, and what to tell the user.

    If there are `faults`, write nothing. `write` names the texts that differ from the host's.
    `mask` and `unmask` are the units to change; `ours` are the units that are masked for the port
    map afterwards.
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

    `filters` are the sections of config.txt that apply to it. `overlays` has for each UART that an
    overlay enables the overlay and the first pin. `bluetooth` says that Bluetooth has the PL011;
    then the mini UART is at GPIO 14 and 15. `rp1` says that the UARTs are those of the chip RP1.
    """

    pattern: str
    filters: frozenset[str]
    overlays: dict[str, tuple[str, int]] = field(default_factory=dict)
    bluetooth: bool = False
    rp1: bool = False


_RP1 = {f"ttyAMA{n}": (f"uart{n}-pi5", pin) for n, pin in enumerate((14, 0, 4, 8, 12))}
_BCM2711 = {f"ttyAMA{n}": (f"uart{n}", pin) for n, pin in enumerate((0, 4, 8, 12), start=2)}

# The first whose pattern matches the model after "Raspberry Pi ".
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
class _Need:
    """What one port needs: lines of config.txt, and no console or unit at its UART.

    `pins` has each GPIO of the UART with the port and its device in words. `consoles` are the
    names of the UART in cmdline.txt.
    """

    lines: tuple[str, ...] = ()
    pins: tuple[tuple[int, str], ...] = ()
    consoles: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def on_board(path: str) -> bool:
    """Whether a path names a UART of the board."""
    return bool(_ON_BOARD.fullmatch(path))


def without_block(config: str) -> str:
    """Return config.txt without the block of `with_block`, and otherwise unchanged."""
    return _BLOCK.sub("", config)


def with_block(config: str, lines: Sequence[str]) -> str:
    """Return config.txt with `lines` in a block of our own; without lines there is no block.

    The block is at the top of the file. There its [all] does not change the section of any of the
    user's lines, neither now nor when the block is removed.
    """
    own = without_block(config)
    if not lines:
        return own
    return "\n".join([_BEGIN, "[all]", *lines, _END, own])


def without_consoles(cmdline: str, names: Iterable[str]) -> str:
    """Return cmdline.txt without consoles and kernel debuggers at these ttys.

    If no console is left, the screen becomes the console: without any, the kernel takes the one in
    the device tree, which is a UART. Only the first line of the file counts.
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
    """Return cmdline.txt with the consoles that `without_consoles` removed from `kept`.

    If nothing else changed since, this is `kept` itself. Words that were added since stay.
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
    """The first line of a text, and the rest, which begins with the end of that line."""
    line = re.split("[\r\n]", text, maxsplit=1)[0]
    return line, text[len(line) :]


def plan(boot: Boot, ports: Sequence[Port], bluetooth: str = "keep") -> Plan:
    """Return what `boot` must become so that `ports` have the UARTs that they name.

    A UART that no port names goes back to what it was. If lines of the user's contradict a port,
    a fault names them. Raises `ValueError` if `bluetooth` is none of `BLUETOOTH`.
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
    """The kind of Raspberry Pi; None for other machines and unknown models."""
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
        # Repeated until the reboot that they are about.
        warnings=(all_of("warnings") if reboot or mask else ())
        + (() if reboot else tuple(_consoles(boot, all_of("consoles")))),
        faults=(*all_of("faults"), *_shared(needs), *(_unwritable(boot) if write else ())),
    )


def _shared(needs: Sequence[_Need]) -> Iterable[str]:
    """A fault for each two ports whose UARTs share a GPIO."""
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
    """A warning for each UART that is the kernel's console by some other configuration."""
    for name in re.findall(r"(?<!\S)console=(tty\w+)", boot.running):
        if name in names:
            yield (
                f"/dev/{name} is the kernel's console: take console={name} off the kernel's "
                "command line, in the boot loader's configuration"
            )


def _getty(name: str) -> str:
    return f"serial-getty@{name}.service"


def _need_of_unknown(port: Port, boot: Boot) -> _Need:
    """What a port needs on a machine whose UARTs are unknown.

    Every model so far enables the UART at GPIO 14 and 15 by the same line.
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
    enable = last(_lines(boot.config, _Pi("", frozenset())), "enable_uart")
    on = _is_on(enable)
    return _Need(
        lines=() if on else ("enable_uart=1",),
        consoles=(name, "serial0") if name != "serial0" else ("serial0", "ttyAMA0", "ttyS0"),
        units=tuple(dict.fromkeys((_getty(name), _getty("serial0")))),
        warnings=(
            f"port {port.name}: {boot.model or 'a machine with a config.txt'}: ttyfleet does not "
            f"know its UARTs; check that {port.path} is the one that enable_uart=1 enables",
        ),
        faults=()
        if on or not enable
        else (
            f"port {port.name}: device: {port.path}: {enable} switches this UART off: delete it",
        ),
    )


def _lines(config: str, pi: _Pi) -> list[Line]:
    """The user's lines of config.txt that apply to this kind of Raspberry Pi.

    A section for a serial number, a pin or a monitor counts as one that does not apply.
    """
    # Blank lines replace our block, so that line numbers stay those of the file.
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
            lines.append(Line(number, key.strip(), re.sub(r"\s+#.*", "", value).strip()))
    return lines


def _need(port: Port, pi: _Pi, lines: Sequence[Line], bluetooth: str, hciuart: bool) -> _Need:
    name = port.path.removeprefix("/dev/")
    if name in pi.overlays:
        return _need_of_overlay(port, name, pi, lines)
    if pi.rp1 and name == "ttyAMA10":  # the debug connector is always enabled
        return _Need(consoles=(name, "serial0"), units=(_getty(name),))
    if pi.rp1 and name == "serial0":
        return _refused(
            port,
            "on this model the boot loader decides which UART this is; write /dev/ttyAMA0 "
            "(GPIO 14 and 15) or /dev/ttyAMA10 (the debug connector)",
        )
    if not pi.rp1 and name in ("ttyAMA0", "ttyS0", "serial0"):
        return _need_of_header(port, name, pi, lines, bluetooth, hciuart)
    if name.startswith("ttyS"):
        told = (
            f"port {port.name}: {port.path} is none of this model's own UARTs ({_ttys(pi)}): "
            "an add-on board must provide it",
        )
        return _Need(consoles=(name,), units=(_getty(name),), warnings=told)
    return _refused(port, f"this model has no such UART; write one of {_ttys(pi)}")


def _ttys(pi: _Pi) -> str:
    first = "ttyAMA10" if pi.rp1 else "serial0"
    return ", ".join(f"/dev/{name}" for name in (first, *pi.overlays))


def _refused(port: Port, problem: str) -> _Need:
    return _Need(faults=(f"port {port.name}: device: {port.path}: {problem}",))


def _need_of_overlay(port: Port, name: str, pi: _Pi, lines: Sequence[Line]) -> _Need:
    """What a port needs whose UART an overlay enables; with flow: rtscts also RTS and CTS."""
    overlay, pin = pi.overlays[name]
    handshake = port.flow == "rtscts"
    pins = range(pin, pin + (4 if handshake else 2))
    own = loaded(lines, overlay)
    param = last(lines, "dtparam", "uart0") if name == "ttyAMA0" else None
    console = last(lines, "dtparam", "uart0_console") if name == "ttyAMA0" else None
    function = "a2" if pi.rp1 and name != "ttyAMA0" else "a4"
    params = ("uart0", "uart0_console") if name == "ttyAMA0" else ()
    faults = list(_clashes(lines, pi, pins, (*names_of(overlay), *params, function)))
    if param and param.words["uart0"] in ("off", "no", "0"):
        faults.append(f"{param} switches this UART off: delete it")
    if own and handshake and "ctsrts" not in own.words:
        faults.append(f"{own} leaves out RTS and CTS, which flow: rtscts needs: add ,ctsrts to it")
    enabled = own or console or (param and not handshake)
    moved = console or _is_on(last(lines, "enable_uart"))
    return _Need(
        lines=() if enabled else (f"dtoverlay={overlay}{',ctsrts' if handshake else ''}",),
        pins=_pins(port, pins),
        # Then serial0 may be this UART to the boot loader (dtparam of the base device tree).
        consoles=(name, "serial0") if name == "ttyAMA0" and moved else (name,),
        units=(_getty(name),),
        warnings=tuple(
            f"port {port.name}: {warning}" for warning in _unknown_overlays(lines, pi, pins)
        ),
        faults=tuple(f"port {port.name}: device: {port.path}: {fault}" for fault in faults),
    )


def _pins(port: Port, pins: range) -> tuple[tuple[int, str], ...]:
    return tuple((pin, f"port {port.name} ({port.path})") for pin in pins)


def _is_on(line: Line | None) -> bool:
    return line is not None and line.value == "1"


def _clashes(lines: Sequence[Line], pi: _Pi, pins: range, own: Collection[str]) -> Iterable[str]:
    """A problem for each of the user's lines that uses one of the pins.

    `own` are the UART's overlays and parameters, and the functions of its pins for gpio=.
    """
    for use in uses(lines, rp1=pi.rp1):
        taken = sorted(use.pins & {*pins})
        if taken and not use.is_likely and use.what not in own:
            shown = ", ".join(map(str, taken))
            yield f"{use} uses GPIO {shown}, which are this UART's: delete one of the two"


def _unknown_overlays(lines: Sequence[Line], pi: _Pi, pins: range) -> Iterable[str]:
    """A warning for each of the user's overlays whose pins only the name of a parameter tells."""
    for use in uses(lines, rp1=pi.rp1):
        if use.is_likely:
            taken = sorted(use.pins & {*pins})
            shown = ", ".join(map(str, taken or pins))
            advice = "seems to use" if taken else "must not use"
            yield (
                f"ttyfleet does not know all pins of {use}: it {advice} GPIO {shown}, "
                "which are this UART's"
            )


def _need_of_header(
    port: Port, name: str, pi: _Pi, lines: Sequence[Line], bluetooth: str, hciuart: bool
) -> _Need:
    """What a port needs at GPIO 14 and 15 of models before the 5: the PL011 or the mini UART."""
    own = {use: line for over, use in _BLUETOOTH_OVERLAYS.items() if (line := loaded(lines, over))}
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
    enable = last(lines, "enable_uart")
    if enable and not _is_on(enable):
        faults.append(f"{enable} switches this UART off: delete it")
    uart, functions = ("uart1", ("a5",)) if header == "ttyS0" else ("uart0", ("a0", "a3"))
    pins = range(14, 18 if port.flow == "rtscts" else 16)
    faults += _clashes(lines, pi, pins, (uart, *functions))
    param = last(lines, "dtparam", uart)
    if param and param.words[uart] in ("off", "no", "0"):
        faults.append(f"{param} switches this UART off: delete it")
    warnings = list(_unknown_overlays(lines, pi, pins))
    if header == "ttyS0":
        faults += _mini_faults(port, lines)
        warnings.append(
            "the mini UART's baudrate follows the core clock, which enable_uart=1 fixes; if "
            "characters are garbled, add core_freq=250 to config.txt or set uart_bluetooth: off"
        )
    if use == "mini" and not (last(lines, "core_freq") or last(lines, "force_turbo")):
        warnings.append(
            "Bluetooth at the mini UART needs a fixed core clock: add core_freq=250 or "
            "force_turbo=1 to config.txt"
        )
    if port.flow == "rtscts" and not last(lines, "gpio"):
        alternative = "a5" if header == "ttyS0" else "a3"
        warnings.append(
            f"for RTS and CTS at GPIO 17 and 16, add gpio=16-17={alternative} to config.txt"
        )
    overlay = next((over for over, value in _BLUETOOTH_OVERLAYS.items() if value == use), "")
    return _Need(
        lines=(
            *(() if _is_on(enable) else ("enable_uart=1",)),
            *((f"dtoverlay={overlay}",) if overlay and use not in own else ()),
        ),
        pins=_pins(port, pins),
        # In cmdline.txt the firmware reads ttyAMA0 as the UART at the pins, whichever that is.
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
    """Why a UART is not at GPIO 14 and 15, and what to write."""
    if use == "keep":
        return (
            "Bluetooth has this UART; set uart_bluetooth: off, or mini (Bluetooth then has the "
            "mini UART), or write /dev/ttyS0 for the mini UART"
        )
    taken = "Bluetooth has this UART" if use == "mini" else "this UART is at no pins"
    return f"{taken}; write /dev/ttyAMA0, which is at GPIO 14 and 15"


def _mini_faults(port: Port, lines: Sequence[Line]) -> Iterable[str]:
    """What a port asks of the mini UART that it cannot do."""
    instead = "set uart_bluetooth: off and device: /dev/ttyAMA0"
    if port.parity != "none":
        yield f"the mini UART has no parity bit: {instead}"
    if port.stopbits != 1:
        yield f"the mini UART has one stop bit only: {instead}"
    if port.bytesize < 7:
        yield f"the mini UART has 7 or 8 data bits only: {instead}"
    core = last(lines, "core_freq")
    mhz = int(core.value) if core and core.value.isdecimal() else _CORE_MHZ
    least = mhz * 1_000_000 // (8 * 65536) + 1
    if port.baudrate < least:
        yield f"the mini UART has no baudrate below {least} at a core clock of {mhz} MHz: {instead}"
