"""Files of the kinds that people publish come through whole, with ser2net as the engine."""

from __future__ import annotations

import pytest

from ttybridge.setup.ser2net import importer

FILES = {
    "consoles of a rack, classic": r"""
# ser2net.conf for conserver, 48 ports
DEFAULT:kickolduser:true
BANNER:hello:\r\nser2net port \p device \d [\s] (Debian GNU/Linux)\r\n\r\n
SIGNATURE:sig:rack 7
OPENSTR:open:\r
CLOSESTR:close:exit\r\n
CLOSEON:bye:NO CARRIER
TRACEFILE:tr1:/var/log/ser2net/\p-\Y-\M-\D-\H:\i:\s.\U
TRACEFILE:tw1:/var/log/ser2net/tw-\p
DEVICE:sw1:/dev/serial/by-id/usb-FTDI_Quad-if00-port0
3001:telnet:600:sw1:9600 8DATABITS NONE 1STOPBIT banner hello tr=tr1 timestamp
3002:telnet:600:/dev/ttyS1:115200 8DATABITS NONE 1STOPBIT LOCAL -RTSCTS remctl hello sig
localhost,3003:raw:0:/dev/ttyS2:19200 EVEN 7DATABITS XONXOFF LOCAL NOBREAK open close bye
3004:telnet:0:/dev/ttyS3:9600 NONE 1STOPBIT 8DATABITS max-connections=3 telnet_brk_on_sync
3005:off:0:/dev/ttyS4:9600
3006:raw:0:/dev/ttyS5:38400 HANGUP_WHEN_DONE tb=tw1 hexdump kickolduser
telnet:telnet:0:/dev/ttyS6:9600 LOCAL
""",
    "a default of an old distribution, classic": r"""
BANNER:banner:\r\nser2net port \p device \d [\B] (Gentoo)\r\n\r\n
BANNER:banner1:this is a test\r\n
BANNER:banner3:this is a test banner 3 lines\r\nhello there\r\ni'm here\r\n
2000:telnet:600:/dev/ttyS0:9600 8DATABITS NONE 1STOPBIT banner
2001:telnet:600:/dev/ttyS1:9600 8DATABITS NONE 1STOPBIT banner1
3000:raw:600:/dev/ttyS0:19200 8DATABITS NONE 1STOPBIT banner3
3001:raw:600:/dev/ttyS1:19200 8DATABITS NONE 1STOPBIT
""",
    "a Zigbee stick for Home Assistant": r"""%YAML 1.1
---
connection: &con00
  accepter: tcp,20108
  enable: on
  options:
    kickolduser: true
    max-connections: 1
  connector: serialdev,/dev/serial/by-id/usb-Sonoff-if00-port0,115200n81,local,dtr=off,rts=off
connection: &zwave
  accepter: tcp,3333
  enable: on
  timeout: 0
  connector: serialdev,
     /dev/serial/by-path/platform-3f980000.usb-usb-0:1.3:1.0-port0,
     115200n81,nobreak,local
  options:
""",
    "a 3D printer": r"""%YAML 1.1
---
define: &banner \r\nser2net port \p device \d [\B] (Debian GNU/Linux)\r\n\r\n
default:
  name: local
  value: true
  class: serialdev
connection: &printer
  accepter: telnet(rfc2217),tcp,2217
  connector: keepopen(retry-time=2000,discard-badwrites),serialdev,/dev/ttyUSB0,250000n81
  options:
    banner: *banner
    chardelay: false
    telnet-brk-on-sync: true
connection: &other
  accepter: telnet(rfc2217,mode=server),tcp,::,2218
  timeout: 30
  connector: serialdev,/dev/ttyACM0,1000000n81,hangup-when-done=false
  options: {max-connections: 8, kickolduser: true, closeon: "logout\r\n"}
""",
    "boards of a test lab, version 2": r"""%YAML 1.1
---
defines:
  banner: \r\nBoard \N at \Y-\m-\D \H:\i:\S from \I\r\n
  logs: /var/log/ser2net
defaults:
  mdns: {value: true}
  speed: {value: 115200n81, class: serialdev}
connections:
  board-01:
    accepter: telnet(rfc2217),tcp,63001
    connector: serialdev,/dev/board-01,local
    options:
      banner: =(banner)
      trace-both: =(logs)/\N-\Y-\m-\D.log
      trace-timestamp: true
      openstr: \r
      mdns-sysattrs: true
  board-02:
    accepter: tcp,127.0.0.1,63002
    connector: /dev/board-02,9600e71,xonxoff
    options:
      trace-write: /var/log/board-02
      trace-write-timestamp: true
      sendon: \n
""",
}
PORTS = dict(zip(FILES, (6, 4, 2, 2, 2), strict=True))


@pytest.mark.parametrize("kind", FILES)
def test_nothing_is_lost(kind: str) -> None:
    imported = importer.parse(FILES[kind], "ser2net", "ser2net")
    assert [line for line in imported.lines("f") if "note: " not in line] == []
    assert (imported.taken, imported.written) == (PORTS[kind], PORTS[kind])
