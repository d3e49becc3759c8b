"""What to type on another machine to reach a listener, for each client; docs/clients.md has more.

A way is a text with blanks, so that a thousand ports need it once: {host}, {tcp} (the TCP port),
{at} (both, as a URL has them), {port} (the name), {user} and {console} (what to run by SSH).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ttybridge.model.ports import Listener, Port
from ttybridge.model.values import Listen


@dataclass(frozen=True)
class Way:
    """One client: its name, and what to type or to enter, with blanks."""

    client: str
    text: str


_QEMU = (
    "-chardev socket,id={port},host={host},port={tcp},nodelay=on,reconnect=2 "
    "-device isa-serial,chardev={port}"
)
_LIBVIRT = """\
<serial type='tcp'>
  <source mode='connect' host='{host}' service='{tcp}'>
    <reconnect enabled='yes' timeout='2'/>
  </source>
  <protocol type='raw'/>
  <target port='0'/>
</serial>"""
_TRUEPORT = """\
1. Add a TruePort adapter for {host}, and open its properties.
2. Configuration, Settings: choose the COM port that was made.
3. TCP port: {tcp}.
4. Connection mode: "Automatic" (older versions: "Lite Mode").
5. Let TruePort initiate the connection, if it asks.
6. Advanced, "On COM port open": "Always return successful"."""

_RAW = (
    Way("nc", "nc {host} {tcp}"),
    Way("socat", "socat -,rawer,escape=0x1d tcp:{at}"),
    Way("PuTTY", "putty -raw {host} -P {tcp}"),
    Way("pyserial", "socket://{at}"),
    Way("esptool", "esptool.py --port socket://{at} --before no_reset --after no_reset flash_id"),
    Way("Home Assistant", "socket://{at}"),
    Way("Zigbee2MQTT", "tcp://{at}"),
    Way("QEMU", _QEMU),
    Way("libvirt", _LIBVIRT),
    Way("TruePort", _TRUEPORT),
)
_TELNET = (
    Way("telnet", "telnet {host} {tcp}"),
    Way("PuTTY", "putty -telnet {host} -P {tcp}"),
    Way("link", "telnet://{at}"),
)
_RFC2217 = (
    *_TELNET,
    Way("pyserial", "rfc2217://{at}"),
    Way("esptool", "esptool.py --port rfc2217://{at} flash_id"),
    Way("Home Assistant", "rfc2217://{at}"),
    Way("gensiot", "gensiot 'telnet(rfc2217),tcp,{host},{tcp}'"),
)
_TLS = (
    Way("socat", "socat -,rawer,escape=0x1d openssl:{at},cafile=CA.pem"),
    Way("ncat", "ncat --ssl-verify --ssl-trustfile CA.pem {host} {tcp}"),
)
# On the Pi it works for any protocol, and asks nobody for another password.
_CONSOLE = Way("ssh", "ssh -t {user}@{host} {console}")

KINDS: Mapping[str, tuple[Way, ...]] = {
    "raw": _RAW,
    "telnet": _TELNET,
    "rfc2217": _RFC2217,
    "tls": _TLS,
    "console": (_CONSOLE,),
}
"""The ways by the kind of a listener; `console` is a port's own."""


def kind(listener: Listener) -> str:
    """Return which of `KINDS` a listener is."""
    return "tls" if listener.tls else listener.protocol


def address(at: Listen, host: str) -> str:
    """Return where clients connect to a listener: the Pi, or the one address of it that listens."""
    if not at.address or ipaddress.ip_address(at.address).is_unspecified:
        return host
    return at.address


def on_loopback(at: Listen) -> bool:
    """Whether only clients on the Pi itself reach a listener."""
    return bool(at.address) and ipaddress.ip_address(at.address).is_loopback


def console(name: str, gives_consoles: bool) -> str:
    """Return what to run by SSH; an account of `serial_users` gets consoles by their names."""
    return name if gives_consoles else f"ttybridge console {name}"


def blanks(port: Port, at: Listen, host: str) -> dict[str, str]:
    """Return what fills the blanks of a listener's ways; `host` is what clients call the Pi."""
    host = address(at, host)
    return {"host": host, "port": port.name, "tcp": str(at.port), "at": str(Listen(host, at.port))}


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return a way with its blanks filled in."""
    return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], text)
