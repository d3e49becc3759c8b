"""Turns a ser2net connection into an entry of the port map, with remarks on what that lacks."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ttybridge.model.ports import KEYS, LOG_DIRECTORIES, SER2NET_OPTIONS
from ttybridge.model.values import label, shown
from ttybridge.setup.ser2net import gensio, vocabulary
from ttybridge.setup.ser2net.banner import banner, doubled, kept, plain
from ttybridge.setup.ser2net.connection import Connection, Option, Remark

# Characters of a text that a connection has, or names: more than anybody writes.
_LONGEST = 4096

# The name of a file, without anything that means something elsewhere.
_LOG_NAME = re.compile(r"(?:\A|/)[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")

# What ser2net can write in a log beside the bytes.
_TRACED = ("hexdump", "timestamp")

_UNSTABLE = re.compile(r"/dev/tty(?:USB|ACM)[0-9]+")


class LeftOut(Exception):
    """Why a connection cannot be a port of the port map."""


@dataclass
class Draft:
    """An entry that is being made, and the remarks on it."""

    connection: Connection
    engine: str
    entry: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    announces: bool = False
    """Whether the host is to announce its ports, which it does for all of them."""

    @property
    def is_ser2nets(self) -> bool:
        """Whether ser2net goes on serving the port, so that its own options can stay."""
        return self.engine == "ser2net"

    def keep(self, name: str, value: str) -> None:
        """Leave an option of ser2net as it is."""
        self.entry.setdefault("options", []).append(f"{name}={value}")

    def lose(self, line: int, text: str) -> None:
        """Add a remark on something that the entry lacks."""
        self.remarks.append(Remark(line, text))

    def note(self, line: int, text: str) -> None:
        """Add a remark on something that is not lost."""
        self.remarks.append(Remark(line, text, lost=False))

    def leave_out(self, reason: object) -> None:
        """Add a remark that there is no port for the connection."""
        name = shown(self.connection.name)
        self.lose(self.connection.line, f"port {name} is left out: {reason}")


def translate(connection: Connection, engine: str, name: Callable[[str, str], str]) -> Draft:
    """Return the entry of a connection; it is empty if the connection is left out.

    `name` takes a device and the name that its port is to have, and returns the one that it gets.
    `check_portmap` says whether each value is valid, and whether the engine can honour it.
    """
    draft = Draft(connection, engine)
    if connection.state == "off":
        draft.note(connection.line, f"port {shown(connection.name)} is off, and left out")
        return draft
    try:
        _translate(draft, name)
    except (LeftOut, ValueError) as reason:
        draft.entry.clear()
        draft.leave_out(reason)
    return draft


def _translate(draft: Draft, name: Callable[[str, str], str]) -> None:
    connection, entry = draft.connection, draft.entry
    _not_too_long(connection)
    if connection.state == "rawlp":
        raise LeftOut("rawlp is for a printer, which is no tty")
    listen, telnet, tls = _accepter(draft)
    device, words = _connector(draft)
    entry["name"] = name(device, _wanted_name(connection, listen))
    entry["listen"] = listen
    entry["device"] = device
    entry["engine"] = draft.engine
    options = [
        *_defaults(draft, vocabulary.PORT_DEFAULTS, "ser2net"),
        *connection.options,
    ]
    serial = [option for option in options if vocabulary.SERIAL_WORD.fullmatch(option.name)]
    chosen = _chosen(draft, [option for option in options if option not in serial])
    remctl = chosen.pop("remctl", None)
    entry["protocol"] = _protocol(draft, telnet, remctl)
    _without_telnet(draft, chosen)
    _line_settings(draft, [*words, *serial, *_of(chosen, "rs485")])
    entry["idle_timeout"] = connection.timeout
    _sharing(draft, chosen)
    _allow(draft, chosen)
    if tls:
        entry["tls"] = tls
    _log(draft, chosen)
    _banner(draft, chosen)
    _words_for_the_device(draft, chosen)
    _tell_of_options(draft, chosen)


def _not_too_long(connection: Connection) -> None:
    """Bound what a few bytes of a file, named by many of its connections, turn into."""
    for what, text in (("accepter", connection.accepter), ("connector", connection.connector)):
        if len(text) > _LONGEST:
            raise LeftOut(f"its {what} is longer than {_LONGEST} characters")


def _defaults(draft: Draft, names: Iterable[str], of: str) -> Iterator[Option]:
    """The defaults for a class of gensio as options; its own win over those for all classes."""
    in_force = {default.name: default for default in draft.connection.defaults if not default.of}
    in_force |= {one.name: one for one in draft.connection.defaults if of and one.of == of}
    for name in names:
        if name in in_force and in_force[name].value is not None:
            yield Option(in_force[name].line, name, in_force[name].value)


def _wanted_name(connection: Connection, listen: str) -> str:
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", connection.label)[:50].lstrip("_.-")
    return label or f"port-{listen.rpartition(':')[2]}"


# The listener.


def _accepter(draft: Draft) -> tuple[str, Option | None, dict[str, str]]:
    """Return the listener, the telnet layer as an option, and the TLS files."""
    connection = draft.connection
    line = connection.line
    layers = gensio.layers(connection.accepter)
    telnet = Option(line, "telnet") if connection.state == "telnet" else None
    tls: dict[str, str] = {}
    for layer in layers[:-1]:
        if layer.name == "telnet" and not telnet and not tls:
            telnet = _telnet(draft, layer.options)
        elif layer.name == "ssl" and not tls:
            tls = _tls(draft, layer.options)
        else:
            raise LeftOut(f"{layer.name}: no counterpart in its accepter")
    last = layers[-1]
    if last.name not in ("", "tcp"):
        raise LeftOut(f"its accepter is {last.name}: a port listens on TCP")
    for option in last.options:
        name, _, value = option.partition("=")
        if name == "tcpd":
            _tcpd(draft, line, value)
        else:
            _layer_option(draft, "tcp", option)
    protocol, listen = gensio.listener(last.rest)
    listen = _numbered(draft, listen)
    if protocol != "tcp":
        raise LeftOut(f"its accepter is {protocol}: a port listens on TCP")
    if re.fullmatch("0+", listen):
        raise LeftOut("its accepter is standard input: a port listens on TCP")
    if "localhost" in last.rest and "::1" not in listen:
        draft.note(line, "localhost: the port listens on 127.0.0.1, not on ::1")
    return listen, telnet, tls


def _numbered(draft: Draft, listen: str) -> str:
    """A listener with a number in place of the name of a service (services(5))."""
    address, colon, name = listen.rpartition(":")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+._-]*", name):
        return listen
    try:
        number = socket.getservbyname(name, "tcp")
    except OSError:
        raise LeftOut(f"its TCP port {shown(name)} is no service that is known here") from None
    draft.note(draft.connection.line, f"{name}: the service has TCP port {number} here")
    return f"{address}{colon}{number}"


def _telnet(draft: Draft, options: tuple[str, ...]) -> Option:
    rfc2217 = next((o.value for o in _defaults(draft, ["rfc2217"], "telnet")), "false")
    for option in options:
        name, equals, value = option.partition("=")
        if name.lower() == "rfc2217":
            rfc2217 = value if equals else "true"
        elif option == "mode=server":
            continue  # as it is anyway, where clients connect to
        else:
            _layer_option(draft, "telnet", option)
    if gensio.truth(rfc2217) is None:
        draft.lose(draft.connection.line, f"rfc2217={label(rfc2217)}: neither true nor false")
    return Option(draft.connection.line, "telnet", "rfc2217" if gensio.truth(rfc2217) else None)


def _layer_option(draft: Draft, layer: str, option: str) -> None:
    if option.partition("=")[0] in vocabulary.TUNING:
        draft.note(draft.connection.line, vocabulary.TUNING_NOTE)
    else:
        draft.lose(draft.connection.line, f"{layer}({shown(option)[1:-1]}): no counterpart")


def _tcpd(draft: Draft, line: int, value: str | None) -> None:
    if value != "off":
        draft.lose(line, vocabulary.TCPD)


def _tls(draft: Draft, options: tuple[str, ...]) -> dict[str, str]:
    files = dict(vocabulary.TLS_FILES)
    given = [(o.name, o.value) for o in _defaults(draft, vocabulary.TLS_OPTIONS, "ssl")]
    for option in options:
        name, equals, value = option.partition("=")
        if name in vocabulary.TLS_OPTIONS:
            given.append((name, value if equals else "true"))
        else:
            _layer_option(draft, "ssl", option)
    files |= {name: value for name, value in given if value}
    clientauth = gensio.truth(files.get("clientauth", "false"))
    if clientauth and "CA" not in files:
        raise LeftOut("ssl(clientauth) without CA=: any client could connect")
    if "CA" in files and not clientauth:
        draft.note(draft.connection.line, "ssl(CA=): without clientauth ser2net asks for nothing")
    tls = {"certificate": files["cert"], "key": files["key"]}
    return {**tls, "client_ca": files["CA"]} if clientauth else tls


def _protocol(draft: Draft, telnet: Option | None, remctl: Option | None) -> str:
    wanted = remctl is not None and remctl.value == "true"
    if telnet is None:
        if remctl and wanted:
            draft.note(remctl.line, "remctl: it does nothing without telnet")
        return "raw"
    # With a telnet layer in the accepter, ser2net ignores remctl (port.c).
    by_state = draft.connection.state == "telnet"
    return "rfc2217" if telnet.value == "rfc2217" or (wanted and by_state) else "telnet"


def _without_telnet(draft: Draft, chosen: dict[str, Option]) -> None:
    """Leave out what ser2net does for telnet clients only, on a port that has none."""
    if draft.entry["protocol"] == "raw":
        for name in ("telnet-brk-on-sync", "signature"):
            for option in _of(chosen, name):
                if option.value != "false":
                    draft.note(option.line, f"{name}: it does nothing without telnet")


# The device.


def _connector(draft: Draft) -> tuple[str, list[Option]]:
    """Return the device and the words after it."""
    line = draft.connection.line
    for layer in gensio.layers(draft.connection.connector):
        if layer.name == "keepopen":
            discards = any(_discards(option) for option in layer.options)
            draft.entry["away"] = "drop" if discards else "keep"
        elif layer.name == "serialdev" or (not layer.name and layer.rest.startswith("/")):
            for option in layer.options:
                _layer_option(draft, "serialdev", option)
            device, _, words = layer.rest.partition(",")
            return device.strip(), _words(line, words)
        else:
            what = layer.name or layer.rest.partition(" ")[0]
            raise LeftOut(f"its device is {shown(what)}, not a tty")
    raise LeftOut("its connector has no device")


def _words(line: int, text: str) -> list[Option]:
    options = (word.partition("=") for word in gensio.words(text, gensio.BLANKS + ","))
    return [Option(line, name, value if equals else None) for name, equals, value in options]


def _discards(option: str) -> bool:
    name, equals, value = option.partition("=")
    return name == "discard-badwrites" and gensio.truth(value if equals else None) is True


def _line_settings(draft: Draft, options: list[Option]) -> None:
    """Add to the entry the line settings that the words for the device name; later words win."""
    line = draft.connection.line
    settings: dict[str, Any] = {}
    switches: dict[str, Option] = {}
    for option in [*_defaults(draft, vocabulary.SERIAL_DEFAULTS, "serialdev"), *options]:
        found = _setting(option)
        switch = _switch(option, vocabulary.SERIAL_SWITCHES)
        if found:
            settings |= found
        elif switch:
            switches[switch.name] = switch
        elif option.name in vocabulary.TUNING:
            draft.note(option.line, vocabulary.TUNING_NOTE)
        elif option.name.lower() == "rs485":
            settings["rs485"] = _rs485(draft, option)
        elif option.name == "nouucplock":
            draft.lose(option.line, "nouucplock: no counterpart: no other program may use the tty")
        else:
            raise LeftOut(f"{_as_written(option)}: not a setting of a serial line")
    on = {name: option for name, option in switches.items() if option.value == "true"}
    if "wronly" in on:
        raise LeftOut("wronly is for a printer, which is no tty")
    flows = [name for name in ("rtscts", "xonxoff") if name in on]
    if len(flows) == 2:
        draft.lose(on["xonxoff"].line, "xonxoff: a port has one flow control, here rtscts")
    # Without CLOCAL the kernel hangs the line up when DCD drops, and ser2net closes its clients.
    draft.entry["carrier"] = "ignore" if "local" in on else "follow"
    if "nobreak" in on and draft.is_ser2nets:
        draft.keep("nobreak", "true")
    draft.entry |= {name: value for name, value in settings.items() if value is not None}
    draft.entry["flow"] = flows[0] if flows else "none"
    draft.entry["hangup"] = "hangup-when-done" in on
    if _UNSTABLE.fullmatch(draft.entry["device"]):
        instead = "`ttybridge discover` says which usb: to write instead"
        draft.note(line, f"{draft.entry['device']}: the adapter that was found first; {instead}")


def _setting(option: Option) -> dict[str, Any] | None:
    """The keys of an entry that a word for the device sets; None if it is some other word."""
    name, value = option.name.lower(), option.value
    if value is None:
        counted = re.fullmatch(r"(?:([5-8])databits|1(stopbit)|2(stopbits))", name)
        if counted:
            if counted[1]:
                return {"bytesize": int(counted[1])}
            return {"stopbits": 1 if counted[2] else 2}
        return {"parity": name} if option.name in vocabulary.PARITIES else gensio.speed(name)
    if name == "speed":
        return gensio.speed(value)
    if name == "parity" and value.upper() in vocabulary.PARITIES:
        return {"parity": value.lower()}
    if (name, value) in (
        ("databits", "5"),
        ("databits", "6"),
        ("databits", "7"),
        ("databits", "8"),
    ):
        return {"bytesize": int(value)}
    if (name, value) in (("stopbits", "1"), ("stopbits", "2")):
        return {"stopbits": int(value)}
    if name in ("dtr", "rts") and gensio.truth(value) is not None:
        return {name: "on" if gensio.truth(value) else "off"}
    return None


def _switch(option: Option, names: tuple[str, ...]) -> Option | None:
    """An option that is on or off, under its present name, as true or false; None for others."""
    name = option.name.removeprefix("-")
    name = vocabulary.OLD_NAMES.get(name, name).lower()
    name = "hangup-when-done" if name == "hangup_when_done" else name
    if name not in names:
        return None
    on = gensio.truth(option.value)
    if option.name.startswith("-"):
        on = False if option.value is None else None
    return None if on is None else Option(option.line, name, "true" if on else "false")


def _rs485(draft: Draft, option: Option) -> dict[str, Any] | None:
    """RS-485 in the form of gensio, or in that of ser2net 3, with 0 and 1 instead of words."""
    if not option.value or option.value.lower() == "off":
        return None
    before, _, rest = option.value.partition(":")
    after, *words = rest.split(":")
    if words and set(words) <= {"0", "1"} and len(words) <= 2:
        words = [
            "rts_on_send" if words[0] == "1" else "rts_after_send",
            *(["rx_during_tx"] if words[1:] == ["1"] else []),
        ]
    unknown = set(words) - {"rts_on_send", "rts_after_send", "rx_during_tx"}
    if unknown or not before.isdecimal() or not after.isdecimal():
        raise LeftOut(f"rs485: {shown(option.value)} has no counterpart")
    if ("rts_on_send" in words) == ("rts_after_send" in words):
        # The kernel does so, too: uart_sanitize_serial_rs485() of serial_core.c.
        draft.note(option.line, "rs485: RTS is on while sending, as Linux sets it then")
    return {
        "rts_on_send": "rts_on_send" in words or "rts_after_send" not in words,
        "rx_during_tx": "rx_during_tx" in words,
        "delay_before_send": int(before[:9]),
        "delay_after_send": int(after[:9]),
    }


# The other options of a port.


def _chosen(draft: Draft, options: list[Option]) -> dict[str, Option]:
    """The options by their present names; later ones win, and lists grow."""
    chosen: dict[str, Option] = {}
    for option in options:
        if not option.name or _too_long(draft, option):
            continue
        switch = _switch(option, vocabulary.SWITCHES)
        name = option.name.lower()
        if switch:
            chosen[switch.name] = switch
        elif name in vocabulary.LISTS and name in chosen and option.value:
            joined = f"{chosen[name].value};{option.value}"
            chosen[name] = Option(option.line, name, joined)
        elif name.removeprefix("-") in vocabulary.TUNING:
            draft.note(option.line, vocabulary.TUNING_NOTE)
        elif name in vocabulary.PORT_OPTIONS and name not in vocabulary.SWITCHES:
            chosen[name] = Option(option.line, name, option.value)
        else:
            draft.lose(option.line, f"{_as_written(option)}: unknown option")
    return chosen


def _too_long(draft: Draft, option: Option) -> bool:
    """Whether an option is longer than anybody writes; if so, add a remark on its loss."""
    if len(option.value or "") <= _LONGEST:
        return False
    words = f"{label(option.name)} is longer than {_LONGEST} characters"
    if option.name.lower() == "remaddr":
        raise LeftOut(words)
    draft.lose(option.line, f"{words}: left out")
    return True


def _of(chosen: dict[str, Option], name: str) -> list[Option]:
    return [chosen.pop(name)] if name in chosen else []


def _sharing(draft: Draft, chosen: dict[str, Option]) -> None:
    kick = chosen.pop("kickolduser", None)
    kicks = kick is not None and kick.value == "true"
    clients = 1
    for option in _of(chosen, "max-connections"):
        number = gensio.number(option.value or "")
        if number is None:
            draft.lose(option.line, f"{_as_written(option)}: not a number")
        clients = max(number or 1, 1)
        if clients > 1024:
            draft.lose(option.line, f"{_as_written(option)}: 1024 clients at most")
            clients = 1024
    if clients > 1:
        draft.entry |= {"sharing": "shared", "max_clients": clients}
        if kick and kicks and draft.is_ser2nets:
            draft.keep("kickolduser", "true")
        elif kick and kicks:
            words = "a further client is refused, and no other is closed for it"
            draft.lose(kick.line, f"kickolduser: no counterpart with max-connections: {words}")
    elif kicks:
        draft.entry["sharing"] = "replace"


def _allow(draft: Draft, chosen: dict[str, Option]) -> None:
    for option in _of(chosen, "remaddr"):
        addresses = [part.strip() for part in (option.value or "").split(";") if part.strip()]
        if addresses:
            draft.entry["allow"] = [_network(address) for address in addresses]
            if draft.engine == "ser2net":
                draft.note(option.line, "remaddr: becomes `allow`, which the host's firewall does")


def _network(address: str) -> str:
    """The network of `[ipv4,|ipv6,][tcp,]host[,0]`."""
    parts = [part for part in address.split(",") if part not in ("ipv4", "ipv6", "tcp")]
    if address.startswith("!") or len(parts) > 2 or not parts or parts[1:] not in ([], ["0"]):
        raise LeftOut(f"remaddr {shown(address)} has no counterpart: `allow` names networks only")
    return parts[0]


def _log(draft: Draft, chosen: dict[str, Option]) -> None:
    traces = {
        which: trace
        for which in ("both", "read", "write")
        if (trace := chosen.pop(f"trace-{which}", None)) and trace.value
    }
    ways = ("", "-read", "-write", "-both")
    switches = [chosen.pop(f"trace{way}-{what}", None) for what in _TRACED for way in ways]
    on = [option for option in switches if option and option.value == "true"]
    if not traces:
        return
    dumps = [option for option in on if option.name.endswith("hexdump")]
    named = not all(_LOG_NAME.search(trace.value or "") for trace in traces.values())
    if draft.is_ser2nets and (dumps or named or len(traces) > 1):
        for which, trace in traces.items():
            draft.keep(f"trace-{which}", _kept_log_file(draft, trace))
        for option in on:
            draft.keep(option.name, "true")
    else:
        _one_log(draft, traces, stamped=len(on) > len(dumps))
        for option in dumps:
            _lose_option(draft, option)


def _one_log(draft: Draft, traces: dict[str, Option], stamped: bool) -> None:
    """The log of a port, which is one file; further ones are lost."""
    which, traced = next(iter(traces.items()))
    for other in list(traces.values())[1:]:
        draft.lose(other.line, f"{other.name} and {traced.name}: a port has one log")
    file = _log_file(draft, traced)
    draft.entry["log"] = {
        "file": file,
        "input": which != "read",
        "output": which != "write",
        "timestamps": stamped,
    }
    if draft.is_ser2nets:
        draft.entry["log"]["max_size"] = 0
    else:
        draft.note(traced.line, "logs: max_size limits their size")


def _kept_log_file(draft: Draft, option: Option) -> str:
    """The file of a trace, with the escapes in its name, where ser2net's unit may write."""
    folder = LOG_DIRECTORIES["ser2net"]
    directory, _, name = (option.value or "").rpartition("/")
    if directory != folder:
        words = f"the unit writes only in {folder}: there the log is {name or 'named as the port'}"
        draft.note(option.line, f"{label(option.value or '')}: {words}")
    fields = {**_names(draft), "d": _connector_text(draft).rpartition("/")[2]}
    fields = {letter: text.replace("/", "-") for letter, text in fields.items()}
    return f"{folder}/{kept(name, fields) or draft.entry['name'] + '.log'}"


def _log_file(draft: Draft, option: Option) -> str:
    """The file of a trace if the engine's unit may write there; else a file named like the port."""
    folder, written = LOG_DIRECTORIES[draft.engine], option.value or ""
    directory, _, name = written.rpartition("/")
    changes = "\\" in written
    if changes or not _LOG_NAME.search(written):
        name = f"{draft.entry['name']}.log"
    file = f"{folder}/{name}"
    if changes:
        words = f"a log is one file, which grows with each opening: {file}"
        draft.note(option.line, f"{label(written)}: {words}")
    elif file != written:
        draft.note(
            option.line, f"{label(written)}: the unit writes only in {folder}: the log is {file}"
        )
    return file


def _names(draft: Draft) -> dict[str, str]:
    """What ser2net calls a connection and its parts, by the letters that stand for them."""
    connection = draft.connection
    return {
        "N": connection.name,
        "o": connection.device_name or connection.name,
        "p": connection.accepter,
    }


def _connector_text(draft: Draft) -> str:
    """The connector as ser2net names it: in the classic form with the words of the port."""
    connection = draft.connection
    words = [
        option.name if option.value is None else f"{option.name}={option.value}"
        for option in connection.options
        if vocabulary.SERIAL_WORD.fullmatch(option.name)
    ]
    return ",".join([connection.connector, *words])


def _banner(draft: Draft, chosen: dict[str, Option]) -> None:
    names = _names(draft)
    entry, connector, device = draft.entry, _connector_text(draft), draft.entry["device"]
    settings = _settings_text(draft)
    fields = {
        **{letter: doubled(text) for letter, text in names.items()},
        "N": "{name}" if names["N"] == entry["name"] else doubled(names["N"]),
        "d": doubled(connector).replace(doubled(device), "{device}", 1),
        "B": settings,
        "s": settings,
    }
    for option in _of(chosen, "banner"):
        written = option.value or ""
        text, lacks, exact = banner(written, fields)
        if draft.is_ser2nets and not (exact and r"\B" not in written):
            # Not by `banner`: that cannot say the bytes, or it would with \B of one release only.
            as_now = _settings_now(draft)
            draft.keep("banner", kept(written, {**names, "d": connector, "s": as_now}))
            continue
        if lacks:
            draft.lose(option.line, f"banner: no counterpart for {', '.join(dict.fromkeys(lacks))}")
        if text and not text.endswith("\n"):
            draft.note(option.line, "banner: CR LF is sent after its last line")
        if text:
            entry["banner"] = text


def _words_for_the_device(draft: Draft, chosen: dict[str, Option]) -> None:
    """What ser2net sends to the device when it opens and closes it."""
    settings = _settings_now(draft)
    fields = {**_names(draft), "d": _connector_text(draft), "B": settings, "s": settings}
    for name, key in (("openstr", "first_words"), ("closestr", "last_words")):
        for option in _of(chosen, name):
            text, lacks = plain(option.value or "", fields)
            if not lacks and not _fits(key, text):
                lacks = ["a text as long as this, or with the byte 0"]
            if not lacks:
                draft.entry[key] = text
            elif draft.is_ser2nets:
                _keep_option(draft, option)
            else:
                words = f"no counterpart for {', '.join(dict.fromkeys(lacks))}"
                draft.lose(option.line, f"{name}: {words}")


def _fits(key: str, text: str) -> bool:
    try:
        KEYS[key].parse(text)
    except ValueError:
        return False
    return True


def _settings_now(draft: Draft) -> str:
    usual = {"baudrate": 9600, "bytesize": 8, "stopbits": 1}
    return _settings_text(draft).format(**{**usual, **draft.entry})


def _settings_text(draft: Draft) -> str:
    """The line settings as gensio says them, such as 9600N81,CLOCAL (its serialdev)."""
    entry = draft.entry
    words = [
        "{baudrate}" + str(entry.get("parity", "none"))[0].upper() + "{bytesize}{stopbits}",
        *([entry["flow"].upper()] if entry["flow"] != "none" else []),
        *(["CLOCAL"] if entry["carrier"] == "ignore" else []),
        *(["HANGUP_WHEN_DONE"] if entry["hangup"] else []),
    ]
    return ",".join(words)


def _tell_of_options(draft: Draft, chosen: dict[str, Option]) -> None:
    """Keep the remaining options for ser2net, or add remarks; not those that switch sth. off."""
    if draft.is_ser2nets and _is_on(chosen.get("mdns")):
        # Otherwise ser2net announces its name of the connection, which is not ours.
        chosen.setdefault("mdns-name", Option(draft.connection.line, "mdns-name", "\\N"))
    elif _is_on(chosen.get("mdns")):
        draft.announces = True
        for option in (*_of(chosen, "mdns"), *_of(chosen, "mdns-sysattrs")):
            draft.note(option.line, f"{option.name}: {vocabulary.ANNOUNCED}")
    for option in chosen.values():
        if option.name in vocabulary.SWITCHES and option.value == "false":
            continue
        if draft.is_ser2nets and option.name in SER2NET_OPTIONS:
            _keep_option(draft, option)
        elif option.name in vocabulary.NEEDED:
            raise LeftOut(f"{option.name} has no counterpart: {vocabulary.NEEDED[option.name]}")
        else:
            _lose_option(draft, option)


def _is_on(option: Option | None) -> bool:
    return option is not None and option.value == "true"


def _keep_option(draft: Draft, option: Option) -> None:
    written = option.value or ""
    value = kept(written, {**_names(draft), "d": _connector_text(draft)})
    if option.name in vocabulary.TEXTS or "\\" not in value:
        draft.keep(option.name, value)
    else:
        draft.lose(option.line, f"{label(option.name)}: {shown(written)} cannot be written here")


def _lose_option(draft: Draft, option: Option) -> None:
    draft.lose(option.line, f"{option.name}: no counterpart: {vocabulary.LOST[option.name]}")


def _as_written(option: Option) -> str:
    text = option.name if option.value is None else f"{option.name}={option.value}"
    return label(text)
