"""The kinds of value that a key of the port map can hold.

Each kind turns what a person wrote in YAML, TOML or on a command line into one normal form with
`parse`, which raises `ValueError` with words for that person, and says in `allowed` what it takes.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Kind(Protocol):
    """One kind of value."""

    @property
    def allowed(self) -> str:
        """What may be written, to end the sentence "write ..."."""

    def parse(self, value: object) -> Any:
        """Return the normal form of `value`; `ValueError` says what is wrong with it."""

    @property
    def schema(self) -> dict[str, Any]:
        """The kind in JSON Schema, as far as that can say it; `parse` takes all that this takes.

        Less than `parse` takes: not what only a program writes, such as a number in quotes.
        """


class NotAllowed(ValueError):
    """A value outside of what its kind allows; the words of `allowed` say all there is to say."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"write {kind.allowed}")


class BadKeys(ValueError):
    """All that is wrong inside a table: (key, problem) pairs, a key in a table in it as `a.b`."""

    def __init__(self, bad: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {problem}" for key, problem in bad))
        self.bad = bad


@dataclass(frozen=True)
class Listen:
    """A TCP listener: `address` is "" for every address of the host, IPv4 and IPv6."""

    address: str
    port: int

    def __str__(self) -> str:
        if not self.address:
            return str(self.port)
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def overlaps(self, other: Listen) -> bool:
        """Whether one host could not have both."""
        if self.port != other.port:
            return False
        if not self.address or not other.address:
            return True
        mine, theirs = ipaddress.ip_address(self.address), ipaddress.ip_address(other.address)
        if mine.version != theirs.version:
            return False
        return mine == theirs or mine.is_unspecified or theirs.is_unspecified


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return None


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


# Characters that no text can hold, as inside [] of a regular expression.
_UNPRINTABLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"

# For schemas, which leave to `parse` whether the hexadecimal digits are an address.
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
    # The message is for editors, which would show the pattern.
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
class Choice:
    """One of a few words; YAML's `on` and `off`, which arrive as booleans, are words too."""

    options: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return _either(self.options)

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
    """Printable text that matches `pattern` whole; `allowed` describes the pattern in words."""

    allowed: str
    pattern: str = rf"[^{_UNPRINTABLE}]*"
    hint_for_numbers: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        return _matching(self.pattern, self.allowed)

    def parse(self, value: object) -> str:
        if isinstance(value, int) and self.hint_for_numbers:
            raise ValueError(self.hint_for_numbers)
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise NotAllowed(self)
        return str(value)


@dataclass(frozen=True)
class UsbId:
    """A USB vendor or product id: four hexadecimal digits, in quotes, lower case."""

    allowed: str = 'four hexadecimal digits in quotes, such as "067b"'

    @property
    def schema(self) -> dict[str, Any]:
        return _matching("[0-9a-fA-F]{4}", self.allowed)

    def parse(self, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            raise ValueError(f"YAML reads it as a number: write {self.allowed}")
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{4}", value):
            raise NotAllowed(self)
        return str(value.lower())


def _check_interface(address: str) -> None:
    """Raise `ValueError` where what follows the % of an IPv6 address names no interface."""
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
class Template:
    """Printable text in which `{field}` stands for the value of a field; `{{` is a brace."""

    fields: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"text, in which {_either([f'{{{name}}}' for name in self.fields])} may stand"

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


@dataclass(frozen=True)
class Networks:
    """A list of IP networks."""

    allowed: str = "a list of networks, such as [192.0.2.0/24, 2001:db8::/32]"

    @property
    def schema(self) -> dict[str, Any]:
        network = rf"{_IPV4}(?:/{_UP_TO_32})?|{_IPV6}(?:/{_UP_TO_128})?"
        return {"type": "array", "items": _matching(network, self.allowed)}

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise NotAllowed(self)
        return tuple(self._network(item) for item in value)

    def _network(self, item: object) -> str:
        if not isinstance(item, str):
            raise NotAllowed(self)
        written = str(item)
        try:
            network = ipaddress.ip_network(written, strict=False)
        except ValueError:
            raise ValueError(f"{written!r} is not a network: write {self.allowed}") from None
        # A client is known by its address alone, and one that comes by IPv4 by its IPv4 address.
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


def setting(kind: Kind, about: str, **default: Any) -> Any:
    """A dataclass field that is a key of the port map: kind, meaning, default if any."""
    return dataclasses.field(metadata={"kind": kind, "about": about}, **default)


def kinds_of(model: type) -> dict[str, Kind]:
    """The keys of a dataclass made of `setting` fields, each with its kind."""
    return {field.name: field.metadata["kind"] for field in dataclasses.fields(model)}


def required_keys_of(model: type) -> list[str]:
    """The keys of such a dataclass that have no default."""
    return [
        field.name
        for field in dataclasses.fields(model)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


def schema_of_keys(model: type) -> dict[str, Any]:
    """Such a dataclass in JSON Schema: an object with these keys and no other ones."""
    properties = {
        field.name: {
            "description": field.metadata["about"],
            **field.metadata["kind"].schema,
            **_default(field),
        }
        for field in dataclasses.fields(model)
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """What JSON Schema says of a default; nothing where there is none that could be written."""
    kind: Kind = field.metadata["kind"]
    if field.default is dataclasses.MISSING:
        return {}
    if field.default is None and not isinstance(kind, OffOr):
        return {}
    out_of_range = isinstance(kind, Integer) and field.default < kind.least
    return {} if out_of_range else {"default": as_written(field.default)}


@dataclass(frozen=True)
class Table:
    """A mapping with the keys of a dataclass."""

    model: type

    @property
    def allowed(self) -> str:
        return f"a mapping of {_either(list(kinds_of(self.model)))}"

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
        kinds = kinds_of(self.model)
        values, bad = parse_keys(value, kinds)
        for name in required_keys_of(self.model):
            if name not in value:
                bad.append((name, f"missing: write {kinds[name].allowed}"))
        if bad:
            raise BadKeys(bad)
        return self.model(**values)


def parse_keys(
    written: Mapping[Any, Any],
    kinds: Mapping[str, Kind],
    synonyms: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values of the good keys of a mapping, and (key, problem) for each bad one.

    `synonyms` are other tools' words for keys, for the hint at an unknown one.
    """
    values: dict[str, Any] = {}
    bad: list[tuple[str, str]] = []
    for name, item in written.items():
        if name not in kinds:
            hint = _nearest(name, kinds, synonyms or {})
            bad.append((label(name), f"{shown(item)}: unknown key; {hint}"))
            continue
        try:
            values[str(name)] = kinds[name].parse(item)
        except BadKeys as inside:
            bad += [(f"{name}.{key}", problem) for key, problem in inside.bad]
        except ValueError as error:
            bad.append((str(name), f"{shown(item)}: {error}"))
    return values, bad


def _nearest(unknown: object, kinds: Mapping[str, Kind], synonyms: Mapping[str, str]) -> str:
    word = label(unknown).lower().replace("-", "_")
    near = [synonyms[word]] if word in synonyms else difflib.get_close_matches(word, kinds, 1)
    return f"did you mean {near[0]}?" if near else f"the keys are {', '.join(kinds)}"


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
    if isinstance(value, Listen | Remote):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: as_written(v) for k, v in vars(value).items() if v is not None}
    return value


def label(name: object) -> str:
    """A name or a key in a message: as written where it fits on one line."""
    if isinstance(name, str) and name and name.isprintable() and len(name) <= 80:
        return str(name)
    return shown(name)


def shown(value: object) -> str:
    """A value as a person wrote it, short enough for one line."""
    try:
        text = repr(_plain(value))
    except (RecursionError, ValueError):  # a list in itself, a number of thousands of digits
        text = f"{type(value).__name__} that is too large to show"
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def printable(text: str) -> str:
    """A text from elsewhere as a terminal may have it: with lines and tabs, and no other control.

    What a terminal would obey (escape sequences, a text that runs backwards) is shown as an escape
    such as \\x1b.
    """
    return "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def all_printable(value: Any) -> Any:
    """A value with all texts in it `printable`, in mappings, lists and dataclasses, too."""
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
    # Ansible hands over subclasses of str, int, dict and list whose repr is not the plain one.
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return value
