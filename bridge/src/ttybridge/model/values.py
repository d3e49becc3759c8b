"""The kinds of value that a key of the port map can hold.

A value comes from YAML, TOML or a command line. Each kind has `parse`, which returns the value in
one normal form or raises `ValueError` with a message for the person who wrote it, and `allowed`,
which says what may be written.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import ipaddress
import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ttybridge.model.pattern import Pattern


class Kind(Protocol):
    """One kind of value."""

    @property
    def allowed(self) -> str:
        """What may be written, as the end of the sentence "write ..."."""

    def parse(self, value: object) -> Any:
        """Return the normal form of `value`. Raises `ValueError`, which says what is wrong."""

    @property
    def schema(self) -> dict[str, Any]:
        """The kind in JSON Schema. `parse` accepts every value that this schema accepts.

        Forms that only programs write (digits as strings) are left out.
        """


class NotAllowed(ValueError):
    """A value that its kind does not allow; the message is what `allowed` says."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"write {kind.allowed}")


class Misread(ValueError):
    """A value that YAML reads as another than was meant; the message begins with the value."""


class BadKeys(ValueError):
    """Every fault inside a table or a list.

    `bad` are (key, problem) pairs. A key of a table inside the table is `a.b`, an item of a list is
    `[2]`, counted from 1, and a key of that item `[2].a`.
    """

    def __init__(self, bad: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {problem}" for key, problem in bad))
        self.bad = bad


@dataclass(frozen=True)
class Listen:
    """Where a TCP listener is: `address` is "" for every address of the host, IPv4 and IPv6."""

    address: str
    port: int

    def __str__(self) -> str:
        if not self.address:
            return str(self.port)
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of the host itself reach it."""
        return bool(self.address) and ipaddress.ip_address(self.address).is_loopback

    def overlaps(self, other: Listen) -> bool:
        """Whether one host cannot have both."""
        if self.port != other.port:
            return False
        if not self.address or not other.address:
            return True
        mine, theirs = ipaddress.ip_address(self.address), ipaddress.ip_address(other.address)
        if mine.version != theirs.version:
            return False
        return mine == theirs or mine.is_unspecified or theirs.is_unspecified


@dataclass(frozen=True)
class WrittenListener:
    """A listener as an entry has it: where it is, and its own values of keys as (key, value)."""

    at: Listen
    own: tuple[tuple[str, Any], ...] = ()


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return None


def _read_as(value: object) -> str:
    """What YAML or TOML reads a text as that lacks its quotes; "" if it is something else."""
    if isinstance(value, bool):
        return "on or off"
    if isinstance(value, int | float):
        return "a number"
    return "a date" if isinstance(value, datetime.date) else ""


def _list(words: Sequence[str], conjunction: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


# Characters that no text can hold, written for the [] of a regular expression.
_UNPRINTABLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"

# Characters that a text of one line cannot hold: controls, line ends, and characters that are
# invisible or change the direction of the text around them.
_NOT_IN_A_LINE = (
    r"\x00-\x1f\x7f-\xa0\xad\u061c\u2000-\u200f\u2028-\u202f\u205f-\u206f\ufeff\ufff9-\ufffb"
)

# For schemas. Whether the hexadecimal digits are an IPv6 address, only `parse` finds out.
_TCP_PORT = (
    "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
)
_BYTE = "(?:[1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_UP_TO_32 = "(?:[12]?[0-9]|3[0-2])"
_UP_TO_128 = "(?:[1-9]?[0-9]|1[01][0-9]|12[0-8])"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_INTERFACE = "[A-Za-z0-9._-]+"
_IPV6_HERE = rf"{_IPV6}(?:%{_INTERFACE})?"


def _matching(pattern: str, allowed: str) -> dict[str, Any]:
    # Without the message an editor shows the pattern.
    message = f"write {allowed}"
    return {"type": "string", "pattern": f"^(?:{pattern})$", "patternErrorMessage": message}


@dataclass(frozen=True)
class Integer:
    """A whole number, also as a string of digits (as Jinja and INI inventories give it)."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def parse(self, value: object) -> int:
        number = _whole_number(value)
        if number is None or not self.least <= number <= self.most:
            raise NotAllowed(self)
        return number


@dataclass(frozen=True)
class Number:
    """A number, also as its digits (as Jinja and INI inventories give it)."""

    least: float
    most: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def parse(self, value: object) -> float:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotAllowed(self)
        if not self.least <= value <= self.most:
            raise NotAllowed(self)
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few words; YAML's `on` and `off`, which arrive as booleans, are words too."""

    options: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return _list(self.options, "or")

    @property
    def schema(self) -> dict[str, Any]:
        # As YAML 1.1 reads on and off.
        booleans = [word == "on" for word in self.options if word in ("on", "off")]
        return {"enum": [*self.options, *booleans]}

    def parse(self, value: object) -> str:
        if isinstance(value, bool):
            value = "on" if value else "off"
        if not isinstance(value, str) or value.lower() not in self.options:
            raise NotAllowed(self)
        return str(value.lower())


@dataclass(frozen=True)
class StopBits:
    """1, 1.5 or 2."""

    allowed: str = "1, 1.5 or 2"

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": [1, 1.5, 2]}

    def parse(self, value: object) -> float:
        if not isinstance(value, bool) and str(value) in ("1", "1.0", "1.5", "2", "2.0"):
            return float(str(value))
        raise NotAllowed(self)


@dataclass(frozen=True)
class Switch:
    """on or off, as a boolean."""

    allowed: str = "on or off"

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": ["on", "off", True, False]}

    def parse(self, value: object) -> bool:
        try:
            return Choice(("on", "off", "true", "false")).parse(value) in ("on", "true")
        except NotAllowed:
            raise NotAllowed(self) from None


@dataclass(frozen=True)
class Text:
    """Printable text, all of which matches `pattern`; `allowed` describes the pattern in words."""

    allowed: str
    pattern: str = rf"[^{_UNPRINTABLE}]*"
    hint_for_numbers: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        return _matching(self.pattern, self.allowed)

    def parse(self, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and self.hint_for_numbers:
            raise ValueError(self.hint_for_numbers)
        if word := _read_as(value):
            raise ValueError(f"without quotes it is {word}: write {self.allowed}")
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise NotAllowed(self)
        return str(value)


# A backslash and what it means in double quotes. In a Windows path such as C:\\new it may be meant.
_ESCAPE = r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[0abefnrtv](?![0-9A-Za-z]))"
_NO_ESCAPES = rf"(?![\s\S]*{_ESCAPE})(?:(?=[\s\S]*:\\)|(?![\s\S]*\\[nr]))"


@dataclass(frozen=True)
class EscapedText:
    """Text in which \\r and the like are characters: in single quotes they would be two each."""

    allowed: str
    pattern: str = rf"[^{_UNPRINTABLE}]*"

    @property
    def schema(self) -> dict[str, Any]:
        return _matching(_NO_ESCAPES + self.pattern, self.allowed)

    def parse(self, value: object) -> str:
        text = Text(self.allowed, self.pattern).parse(value)
        if not re.match(_NO_ESCAPES, text):
            quoted = text.replace('"', r"\"")
            problem = f"'{text}' in single quotes, or in none, has a backslash and a letter"
            raise Misread(f'{problem}: write "{quoted}", in double quotes')
        return text


@dataclass(frozen=True)
class UsbId:
    """A USB vendor or product id: four hexadecimal digits, in quotes, lower case."""

    allowed: str = 'four hexadecimal digits in quotes, such as "067b"'

    @property
    def schema(self) -> dict[str, Any]:
        return _matching("[0-9a-fA-F]{4}", self.allowed)

    def parse(self, value: object) -> str:
        if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{4}", value):
            return str(value.lower())
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF:
            raise Misread(f"{value} {self._meant(value)}")
        raise NotAllowed(self)

    @staticmethod
    def _meant(number: int) -> str:
        """What a person wrote without quotes, for a number that YAML made of it."""
        octal, digits, hexadecimal = f"{number:04o}", f"{number:04}", f"{number:04x}"
        if number < 0o1000:
            problem = f'({octal} without quotes is octal): write "{octal}"'
            return f'{problem}, or "{digits}" if you wrote {number:d}'
        if number < 10_000:
            problem = f'({digits} without quotes is a number): write "{digits}"'
            return f'{problem}, or "{hexadecimal}" if you wrote 0x{hexadecimal}'
        return f'(0x{hexadecimal} without quotes is a number): write "{hexadecimal}"'


def _check_interface(address: str) -> None:
    """Raise `ValueError` if the part after the % of an IPv6 address is no interface's name."""
    _, percent, interface = address.partition("%")
    if percent and not re.fullmatch(_INTERFACE, interface):
        allowed = "letters, digits, '.', '_' and '-' after the %"
        raise ValueError(f"{address!r} names no network interface: write {allowed}")


@dataclass(frozen=True)
class ListenAddress:
    """`[address:]port` with an IP address; IPv6 in brackets."""

    allowed: str = "[address:]port, such as 9999, 127.0.0.1:9999 or [::1]:9999"

    @property
    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 1, "maximum": 65535}
        text = _matching(rf"(?:\[{_IPV6_HERE}\]:|{_IPV4}:)?{_TCP_PORT}", self.allowed)
        return {"anyOf": [number, text]}

    def parse(self, value: object) -> Listen:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(int(value))
        match = (
            re.fullmatch(r"(?:\[([^\]\s]+)\]:|([^:\s]+):)?([0-9]{1,5})", value)
            if isinstance(value, str)
            else None
        )
        if not match or not 1 <= int(match[3]) <= 65535:
            raise ValueError(f"write {self.allowed}, with a port from 1 to 65535")
        address = match[1] or match[2] or ""
        if address:
            address = self._address(address, brackets=bool(match[1]))
        return Listen(address, int(match[3]))

    def _address(self, text: str, brackets: bool) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an IP address: write {self.allowed}") from None
        if (address.version == 6) != brackets:
            raise NotAllowed(self)
        _check_interface(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            raise ValueError(f"{text!r} is an IPv4 address: write {address.ipv4_mapped}")
        return str(address)


@dataclass(frozen=True)
class Remote:
    """A TCP listener elsewhere: a host name or IP address, and a port."""

    host: str
    port: int
    tls: Any = None
    """What TLS needs to connect to it, None without TLS."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class RemoteAddress:
    """`host:port`; IPv6 in brackets."""

    allowed: str = "host:port, such as pc.example.org:10001, 192.0.2.7:10001 or [2001:db8::7]:10001"

    @property
    def schema(self) -> dict[str, Any]:
        return _matching(rf"(?:\[{_IPV6_HERE}\]|[A-Za-z0-9._-]+):{_TCP_PORT}", self.allowed)

    def parse(self, value: object) -> Remote:
        match = (
            re.fullmatch(r"(?:\[([^\]\s]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", value)
            if isinstance(value, str)
            else None
        )
        if not match or not 1 <= int(match[3]) <= 65535:
            raise ValueError(f"write {self.allowed}, with a port from 1 to 65535")
        return Remote(match[2] or self._address(match[1]), int(match[3]))

    def _address(self, text: str) -> str:
        try:
            address = ipaddress.IPv6Address(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv6 address: write {self.allowed}") from None
        _check_interface(text)
        return str(address)


@dataclass(frozen=True)
class Dialled:
    """A listener elsewhere: its address, or a mapping with `at` and `tls`."""

    tls: Kind
    allowed: str = RemoteAddress.allowed

    @property
    def schema(self) -> dict[str, Any]:
        keys = {"at": RemoteAddress().schema, "tls": self.tls.schema}
        mapping = {"type": "object", "properties": keys, "additionalProperties": False}
        return {"anyOf": [RemoteAddress().schema, {**mapping, "required": ["at"]}]}

    def parse(self, value: object) -> Remote:
        if not isinstance(value, Mapping):
            return RemoteAddress().parse(value)
        values, bad = parse_keys(value, {"at": RemoteAddress(), "tls": self.tls})
        if "at" not in value:
            bad.append(("at", f"missing: write {self.allowed}"))
        if bad:
            raise BadKeys(bad)
        remote: Remote = values["at"]
        return dataclasses.replace(remote, tls=values.get("tls"))


@dataclass(frozen=True)
class Template:
    """Printable text in which `{field}` is replaced by a field's value; `{{` is a brace."""

    fields: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"text, in which {_list([f'{{{name}}}' for name in self.fields], 'or')} may stand"

    @property
    def schema(self) -> dict[str, Any]:
        fields = "|".join(self.fields)
        text = rf"(?:[^{{}}{_UNPRINTABLE}]|\{{\{{|\}}\}}|\{{(?:{fields})\}})*"
        return _matching(text, self.allowed)

    def parse(self, value: object) -> str:
        text = Text(self.allowed).parse(value)
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError:
            raise ValueError("a single brace: write {{ or }} for a brace itself") from None
        for _, field, spec, conversion in parts:
            if field is not None and (field not in self.fields or spec or conversion):
                raise NotAllowed(self)
        return text


# Words of `allow`: the networks that the host is in, and every network.
LOCAL, ANY = "local", "any"

# Interfaces of containers and virtual machines, whose networks are not LOCAL: those that Docker,
# Podman, CNI, libvirt, LXC, LXD and Incus make. A bridge that somebody has named is none of them.
CONTAINERS = (
    r"docker\d+|docker_gwbridge|br-[0-9a-f]{12}|podman\d+|cni-?[a-z]*\d+|flannel[.\w]*|cali\w*"
    r"|veth.*|vnet\d+|virbr\d+|lxcbr\d+|lxdbr\d+|incusbr\d+"
)


@dataclass(frozen=True)
class Networks:
    """A list of IP networks. The word LOCAL is one, too; ANY stands alone."""

    allowed: str = "a list of networks, such as [local, 192.0.2.0/24, 2001:db8::/32], or [any]"

    @property
    def schema(self) -> dict[str, Any]:
        network = rf"{_IPV4}(?:/{_UP_TO_32})?|{_IPV6}(?:/{_UP_TO_128})?"
        several = {"type": "array", "items": _matching(f"{LOCAL}|{network}", self.allowed)}
        return {"anyOf": [several, {"enum": [[ANY]]}]}

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise NotAllowed(self)
        networks = tuple(self._network(item) for item in value)
        if ANY in networks and len(networks) > 1:
            raise ValueError(f"{ANY} is every network: write [{ANY}] alone, or leave it out")
        return networks

    def _network(self, item: object) -> str:
        if not isinstance(item, str):
            raise NotAllowed(self)
        written = str(item)
        if written in (LOCAL, ANY):
            return written
        try:
            network = ipaddress.ip_network(written, strict=False)
        except ValueError:
            raise ValueError(f"{written!r} is not a network: write {self.allowed}") from None
        # The daemon compares plain addresses: without an interface, and IPv4 never inside IPv6.
        plain = re.sub("%[^/]*", "", written)
        if plain != written:
            raise ValueError(f"{written!r} names an interface: write {plain}")
        mapped = getattr(network.network_address, "ipv4_mapped", None)
        if mapped and network.prefixlen >= 96:
            ipv4 = f"{mapped}/{network.prefixlen - 96}"
            raise ValueError(f"{written!r} is a network of IPv4: write {ipv4}")
        try:
            return str(ipaddress.ip_network(written))
        except ValueError:
            problem = f"{written!r} is an address inside a network"
            raise ValueError(f"{problem}: write {network}") from None


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Allowed:
    """Who may connect: what the value of `allow` means."""

    everybody: bool = True
    local: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allow: Collection[str]) -> Allowed:
        """Return the meaning of a value; an empty one lets everybody in."""
        networks = tuple(ipaddress.ip_network(one) for one in allow if one not in (LOCAL, ANY))
        return cls(not allow or ANY in allow, LOCAL in allow, networks)

    def lets_in(self, address: str, is_local: Callable[[str], bool]) -> bool:
        """Whether a client may connect from an address.

        `is_local` says whether an address is in a network of the host: only the host knows that.
        """
        if self.everybody or (self.local and is_local(address)):
            return True
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.networks)


# What a changed value of a key closes, from the least to the most: nothing, since it is applied to
# the open port and its clients; one listener (or the connection that the port makes) with its
# clients; the port with its device and all its clients.
Touches = Literal["live", "listener", "port"]


def setting(
    kind: Kind, about: str, *, touches: Touches, inherited: bool = False, **default: Any
) -> Any:
    """A dataclass field that is a key of the port map.

    `about` is its meaning in words. `inherited` marks a key of a listener whose default is the
    port's value.
    """
    metadata = {"kind": kind, "about": about, "touches": touches, "inherited": inherited}
    return dataclasses.field(metadata=metadata, **default)


def keys_of(model: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass that are keys of the port map, by name."""
    return {f.name: f for f in dataclasses.fields(model) if "kind" in f.metadata}


def kinds_of(model: type) -> dict[str, Kind]:
    """The keys of a dataclass made of `setting` fields, each with its kind."""
    return {name: field.metadata["kind"] for name, field in keys_of(model).items()}


def required_keys_of(model: type) -> list[str]:
    """The keys of such a dataclass that have no default."""
    return [
        name
        for name, field in keys_of(model).items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


def schema_of_keys(model: type) -> dict[str, Any]:
    """Such a dataclass in JSON Schema: an object with these keys and no others."""
    properties = {
        name: {
            "description": field.metadata["about"],
            **field.metadata["kind"].schema,
            **_default(field),
        }
        for name, field in keys_of(model).items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def has_writable_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a person can write a key's default. Some mean only that nothing is written."""
    if field.default is dataclasses.MISSING or field.metadata["inherited"]:
        return False
    try:
        parsed = field.metadata["kind"].parse(as_written(field.default))
    except ValueError:
        return False
    return bool(parsed == field.default)


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    return {"default": as_written(field.default)} if has_writable_default(field) else {}


@dataclass(frozen=True)
class Table:
    """A mapping with the keys of a dataclass; `example` is one, in YAML."""

    model: type
    example: str

    @property
    def allowed(self) -> str:
        required = required_keys_of(self.model)
        optional = [key for key in kinds_of(self.model) if key not in required]
        keys = (
            [f"the key{'s' if required[1:] else ''} {_list(required, 'and')}"] if required else []
        )
        if optional:
            keys.append(f"{'maybe' if keys else 'one or more of'} {_list(optional, 'and')}")
        return f"a mapping with {', and '.join(keys)}, such as {self.example}"

    @property
    def schema(self) -> dict[str, Any]:
        return {
            **schema_of_keys(self.model),
            "required": required_keys_of(self.model),
            "minProperties": 1,
        }

    def parse(self, value: object) -> Any:
        if not isinstance(value, Mapping) or not value:
            raise NotAllowed(self)
        return self.model(**parse_table(value, self.model))


def parse_table(
    written: Mapping[Any, Any], model: type, hints: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the values of a mapping with the keys of `model`.

    `hints` are as for `parse_keys`. Raises `BadKeys` with every fault.
    """
    kinds = kinds_of(model)
    values, bad = parse_keys(written, kinds, hints)
    for name in required_keys_of(model):
        if name not in written:
            bad.append((name, f"missing: write {kinds[name].allowed}"))
    if bad:
        raise BadKeys(bad)
    return values


def parse_keys(
    written: Mapping[Any, Any],
    kinds: Mapping[str, Kind],
    hints: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values of the good keys of a mapping, and (key, problem) for each bad one.

    `hints` say what to do about an unknown key that a person is likely to write.
    """
    values: dict[str, Any] = {}
    bad: list[tuple[str, str]] = []
    for name, item in written.items():
        if name not in kinds:
            hint = _nearest(name, kinds, hints or {})
            bad.append((label(name), f"{shown(item)}: unknown key; {hint}"))
            continue
        try:
            values[str(name)] = kinds[name].parse(item)
        except BadKeys as inside:
            bad += [(inside_of(str(name), key), problem) for key, problem in inside.bad]
        except Misread as error:
            bad.append((str(name), str(error)))
        except ValueError as error:
            bad.append((str(name), f"{shown(item)}: {error}"))
    return values, bad


def inside_of(name: str, key: str) -> str:
    """What a message calls a key of a table (`a.b`) or an item of a list (`a[2]`)."""
    return name + key if key.startswith("[") else f"{name}.{key}"


def did_you_mean(synonyms: Mapping[str, str]) -> dict[str, str]:
    """Make hints for `parse_keys` of other words for keys."""
    return {word: f"did you mean {key}?" for word, key in synonyms.items()}


def _nearest(unknown: object, kinds: Mapping[str, Kind], hints: Mapping[str, str]) -> str:
    word = label(unknown).lower().replace("-", "_")
    if word in hints:
        return hints[word]
    near = difflib.get_close_matches(word, kinds, 1)
    return f"did you mean {near[0]}?" if near else f"the keys are {', '.join(kinds)}"


# Other words for the keys of a listener.
_LISTENER_WORDS = {
    "listen": "at",
    "address": "at",
    "port": "at",
    "tcp_port": "at",
    "mode": "protocol",
    "speed": "baudrate",
    "databits": "bytesize",
    "data_bits": "bytesize",
    "max_connections": "max_clients",
    "ssl": "tls",
}


@dataclass(frozen=True)
class Listeners:
    """One listener, or a list of them; in a list, a mapping holds what differs from the port.

    `model` is the dataclass with the keys of such a mapping; it has the key `at`. `of_port` returns
    the keys of a port, for the message about one that only a port can have.
    """

    model: type
    of_port: Callable[[], Collection[str]]
    most: int = 64
    allowed: str = f"{ListenAddress.allowed}, or a list of listeners"

    @property
    def schema(self) -> dict[str, Any]:
        one = ListenAddress().schema
        mapping = {**schema_of_keys(self.model), "required": required_keys_of(self.model)}
        each = {"anyOf": [*one["anyOf"], mapping]}
        several = {"type": "array", "items": each, "uniqueItems": True}
        return {"anyOf": [*one["anyOf"], {**several, "minItems": 1, "maxItems": self.most}]}

    def parse(self, value: object) -> tuple[WrittenListener, ...]:
        if isinstance(value, Mapping):
            raise ValueError("a mapping for one listener belongs in a list: write [{at: ...}]")
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return (WrittenListener(ListenAddress().parse(value)),)
        if not value:
            raise ValueError("an empty list: write a listener in it, such as [9999]")
        if len(value) > self.most:
            raise ValueError(f"{len(value)} listeners: write {self.most} at most")
        listeners: list[WrittenListener] = []
        bad: list[tuple[str, str]] = []
        for number, item in enumerate(value, start=1):
            try:
                listeners.append(self._parse_one(item))
            except BadKeys as inside:
                bad += [(f"[{number}].{key}", problem) for key, problem in inside.bad]
            except ValueError as error:
                bad.append((f"[{number}]", f"{shown(item)}: {error}"))
        if bad:
            raise BadKeys(bad)
        return tuple(listeners)

    def _parse_one(self, item: object) -> WrittenListener:
        if not isinstance(item, Mapping):
            return WrittenListener(ListenAddress().parse(item))
        elsewhere = "all listeners of a port share it: write it in the port's entry"
        hints = {**dict.fromkeys(self.of_port(), elsewhere), **did_you_mean(_LISTENER_WORDS)}
        values = parse_table(item, self.model, hints)
        at = values.pop("at")
        own = tuple((name, values[name]) for name in keys_of(self.model) if name in values)
        return WrittenListener(at, own)


@dataclass(frozen=True)
class Several:
    """A list of texts, each once; `one` says what is allowed in the words of the whole list."""

    one: Text
    most: int

    @property
    def allowed(self) -> str:
        return self.one.allowed

    @property
    def schema(self) -> dict[str, Any]:
        items = self.one.schema
        return {"type": "array", "items": items, "maxItems": self.most, "uniqueItems": True}

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise NotAllowed(self)
        texts = tuple(self.one.parse(item) for item in value)
        if text := twice(texts):
            raise ValueError(f"{shown(text)} is there twice: write it once")
        if len(texts) > self.most:
            raise NotAllowed(self)
        return texts


def twice(texts: Sequence[str]) -> str:
    """Return the first of some texts, none of them empty, that is there again; "" if none is."""
    return next((text for place, text in enumerate(texts) if text in texts[:place]), "")


def short_texts(most: int = 16, longest: int = 64) -> Several:
    """Return the kind of a list of tags."""
    allowed = (
        f"a list such as [lab, rack-1], of at most {most} texts, "
        f"each of one line, without a comma, at most {longest} characters"
    )
    inner, edge = rf"[^{_NOT_IN_A_LINE},]", rf"[^{_NOT_IN_A_LINE}, ]"
    return Several(Text(allowed, rf"{edge}(?:{inner}{{0,{longest - 2}}}{edge})?"), most)


# Central accounts may have a domain (EXAMPLE\\jane, jane@example.org), groups have spaces.
USERS = Several(
    Text(
        'a list of users and @groups of the host, such as [tech1, "@netops"]',
        r"@?[A-Za-z0-9_](?:[A-Za-z0-9_.@+$\\ -]{0,126}[A-Za-z0-9_.$-])?",
    ),
    most=64,
)

NAMES_IN_CERTIFICATES = Several(
    Text(
        "a list of names in certificates, such as [jane, jane@example.org]",
        rf"[^{_NOT_IN_A_LINE} ](?:[^{_NOT_IN_A_LINE}]{{0,254}})",
    ),
    most=256,
)


@dataclass(frozen=True)
class Options:
    """A list of NAME=VALUE, each name once; a value is printable ASCII without `*` and quotes."""

    names: tuple[str, ...]
    most: int = 64

    @property
    def allowed(self) -> str:
        return (
            "a list such as [telnet-brk-on-sync=true], of texts NAME=VALUE, each of a NAME of "
            f"{_list(self.names, 'and')}, and a VALUE of at most 4096 printable ASCII characters "
            "without * and quotes (write \\x2a, \\x27 or \\x22)"
        )

    @property
    def _option(self) -> Text:
        return Text(self.allowed, rf"(?:{'|'.join(self.names)})=[ !#-&()+-~]{{0,4096}}")

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self._option.schema, "maxItems": self.most}

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise NotAllowed(self)
        options = tuple(self._option.parse(item) for item in value)
        if name := twice([option.partition("=")[0] for option in options]):
            raise ValueError(f"{name} is there twice: write it once")
        if len(options) > self.most:
            raise NotAllowed(self)
        return options


@dataclass(frozen=True)
class Named:
    """Texts with names, as (name, text) pairs in the order in which they are written."""

    items: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Patterns:
    """A mapping of names to regular expressions (`Pattern`)."""

    most: int = 16
    longest: int = 250
    name: str = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
    allowed: str = 'a mapping of words to regular expressions, such as {panic: "Kernel panic|Oops"}'

    @property
    def schema(self) -> dict[str, Any]:
        text = {"type": "string", "minLength": 1, "maxLength": self.longest}
        return {
            "type": "object",
            # What `Pattern` takes, no schema can say: without a sign it is text.
            "additionalProperties": {**text, "pattern": r"^[^\x00-\x1f\x7f]+$"},
            "propertyNames": {"pattern": f"^{self.name}$"},
            "maxProperties": self.most,
        }

    def parse(self, value: object) -> Named:
        if not isinstance(value, Mapping):
            raise NotAllowed(self)
        if len(value) > self.most:
            raise ValueError(f"{len(value)} expressions: write {self.most} at most")
        bad: list[tuple[str, str]] = []
        for name, text in value.items():
            try:
                self._check(name, text)
            except ValueError as error:
                bad.append((label(name), f"{shown(text)}: {error}"))
        if bad:
            raise BadKeys(bad)
        return Named(tuple((str(name), str(text)) for name, text in value.items()))

    def _check(self, name: object, text: object) -> None:
        if not isinstance(name, str) or not re.fullmatch(self.name, name):
            raise ValueError("its name is not letters, digits, '_' and '-': write such a name")
        if word := _read_as(text):
            raise ValueError(f"without quotes it is {word}: write it in quotes")
        if not isinstance(text, str) or not re.fullmatch(r"[^\x00-\x1f\x7f]+", text):
            raise ValueError("write a regular expression of one line, such as Kernel panic|Oops")
        if len(text) > self.longest:
            raise ValueError(f"{len(text)} characters: write {self.longest} at most")
        Pattern(text)


def one_line(most: int) -> Text:
    """Text of one line without invisible characters, at most `most` characters."""
    allowed = f"text of one line, at most {most} characters"
    hint = "YAML read it as a number: write it in quotes"
    return Text(allowed, rf"[^{_NOT_IN_A_LINE}]{{0,{most}}}", hint_for_numbers=hint)


@dataclass(frozen=True)
class OffOr:
    """off (None), or what another kind takes."""

    kind: Kind

    @property
    def allowed(self) -> str:
        return f"off, or {self.kind.allowed}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"enum": ["off", False]}, self.kind.schema]}

    def parse(self, value: object) -> Any:
        if value is False or value == "off":
            return None
        try:
            return self.kind.parse(value)
        except NotAllowed:
            raise NotAllowed(self) from None


def as_written(value: Any) -> Any:
    """A parsed value in the form in which a person writes it."""
    if value is None or value is False:
        return "off"
    if value is True:
        return "on"
    if isinstance(value, Remote) and value.tls:
        return {"at": str(value), "tls": as_written(value.tls)}
    if isinstance(value, Listen | Remote):
        return str(value)
    if isinstance(value, WrittenListener):
        own = {name: as_written(item) for name, item in value.own}
        return {"at": str(value.at), **own} if own else str(value.at)
    if isinstance(value, tuple):
        return [as_written(item) for item in value]
    if isinstance(value, Named):
        return dict(value.items)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: as_written(v) for k, v in vars(value).items() if v is not None}
    return value


def label(name: object) -> str:
    """A name or a key for a message: as written if it is short and fits on one line."""
    if isinstance(name, str) and name and name.isprintable() and len(name) <= 80:
        return str(name)
    return shown(name)


def shown(value: object) -> str:
    """A value for a message: as a person wrote it, cut to one line."""
    if value is None:
        return "empty"
    try:
        text = repr(_plain(value))
    except (RecursionError, ValueError):  # a list in itself, a number of thousands of digits
        text = f"{type(value).__name__} that is too large to show"
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def printable(text: str) -> str:
    """Make text from elsewhere safe to print on a terminal.

    Line ends and tabs stay. Every other character that a terminal obeys (an escape sequence, a
    change of direction) becomes visible, such as \\x1b.
    """
    return "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in text)


_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """A time in its largest unit, such as `5 min`."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "0 s"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def all_printable(value: Any) -> Any:
    """Apply `printable` to every text in a value: in mappings, lists, tuples and dataclasses."""
    if isinstance(value, str):
        return value if value.isprintable() else printable(value)
    if isinstance(value, Mapping):
        return {all_printable(key): all_printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [all_printable(item) for item in value]
    if isinstance(value, tuple):
        return tuple(all_printable(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        items = {name: all_printable(getattr(value, name)) for name in fields}
        return dataclasses.replace(value, **items)
    return value


def _plain(value: object) -> object:
    # Ansible passes subclasses of str, int, dict and list that have their own repr.
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | None):
        return value
    if isinstance(value, datetime.date):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return value
