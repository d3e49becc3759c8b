"""config.txt and cmdline.txt of every model and release, for ports at the Pi's own UARTs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port
from ttybridge.setup.boot_config import (
    BLUETOOTH,
    Boot,
    Plan,
    on_board,
    plan,
    with_block,
    with_consoles,
    without_block,
    without_consoles,
)

# The settings and sections that Raspberry Pi OS ships.
BULLSEYE = """\
# For more options see the documentation
#hdmi_safe=1
#dtparam=i2c_arm=on
#dtparam=spi=on
dtparam=audio=on
camera_auto_detect=1
display_auto_detect=1
dtoverlay=vc4-kms-v3d
max_framebuffers=2
disable_overscan=1

[cm4]
otg_mode=1

[all]

[pi4]
arm_boost=1

[all]
"""
BOOKWORM = """\
# For more options see the documentation
#dtparam=i2c_arm=on
#dtparam=i2s=on
#dtparam=spi=on
dtparam=audio=on
camera_auto_detect=1
display_auto_detect=1
auto_initramfs=1
dtoverlay=vc4-kms-v3d
max_framebuffers=2
disable_fw_kms_setup=1
arm_64bit=1
disable_overscan=1
arm_boost=1

[cm4]
otg_mode=1

[cm5]
dtoverlay=dwc2,dr_mode=host

[all]
"""
TRIXIE = BOOKWORM.replace("[all]", "[pi5]\ndtoverlay=nospi10\n\n[all]")

ROOT = "root=PARTUUID=4f2a6a3e-02 rootfstype=ext4"
CMDLINE = f"console=serial0,115200 console=tty1 {ROOT} fsck.repair=yes rootwait\n"
FREED = f"console=tty1 {ROOT} fsck.repair=yes rootwait\n"
DESKTOP = (
    f"console=serial0,115200 console=tty1 {ROOT} quiet splash plymouth.ignore-serial-consoles\n"
)
DESKTOP_FREED = f"console=tty1 {ROOT} quiet splash plymouth.ignore-serial-consoles\n"
OLD = f"dwc_otg.lpm_enable=0 console=ttyAMA0,115200 kgdboc=ttyAMA0,115200 console=tty1 {ROOT}\n"
OLD_FREED = f"dwc_otg.lpm_enable=0 console=tty1 {ROOT}\n"

PI1 = "Raspberry Pi Model B Rev 2"
PI2 = "Raspberry Pi 2 Model B Rev 1.1"
PI3 = "Raspberry Pi 3 Model B Rev 1.2"
PI3A = "Raspberry Pi 3 Model A Plus Rev 1.0"
PI4 = "Raspberry Pi 4 Model B Rev 1.4"
PI400 = "Raspberry Pi 400 Rev 1.0"
PI5 = "Raspberry Pi 5 Model B Rev 1.0"
PI500 = "Raspberry Pi 500 Rev 1.0"
CM3 = "Raspberry Pi Compute Module 3 Plus Rev 1.0"
CM4 = "Raspberry Pi Compute Module 4 Rev 1.0"
CM4S = "Raspberry Pi Compute Module 4S Rev 1.0"
CM5 = "Raspberry Pi Compute Module 5 Rev 1.0"
ZERO = "Raspberry Pi Zero Rev 1.3"
ZERO_W = "Raspberry Pi Zero W Rev 1.1"
ZERO_2 = "Raspberry Pi Zero 2 W Rev 1.0"
MODELS = [
    *(PI1, PI2, PI3, PI3A, PI4, PI400, PI5, PI500, CM3, CM4, CM4S, CM5),
    *(ZERO, ZERO_W, ZERO_2),
]


def ports(*devices: str, **keys: Any) -> tuple[Port, ...]:
    """A port for each device, `/dev/` left out."""
    return parse_portmap(
        [
            {"name": f"p{n}", "device": f"/dev/{device}", "listen": 9000 + n, **keys}
            for n, device in enumerate(devices)
        ]
    )


def boot(model: str, config: str = TRIXIE, cmdline: str = CMDLINE, **more: Any) -> Boot:
    return Boot(model, "/boot/firmware", config=config, cmdline=cmdline, **more)


def after(before: Boot, made: Plan) -> Boot:
    """The host once the plan was carried out and it was started again."""
    masked = {*before.masked, *made.mask} - {*made.unmask}
    return replace(
        before,
        config=made.config,
        cmdline=made.cmdline,
        kept=made.kept,
        masked=tuple(sorted(masked)),
        ours=made.ours,
    )


def added(before: str, now: str) -> list[str]:
    """The lines that now stand above what was there before."""
    assert now.endswith(before)
    return now.removesuffix(before).splitlines()[2:-1]


# model, config.txt, cmdline.txt, device, uart_bluetooth: lines in the block, cmdline.txt, gettys
FREE: list[tuple[str, str, str, str, str, list[str], str, str]] = [
    (ZERO, BOOKWORM, CMDLINE, "serial0", "keep", ["enable_uart=1"], FREED, "serial0 ttyAMA0"),
    (ZERO, TRIXIE, CMDLINE, "ttyAMA0", "off", ["enable_uart=1"], FREED, "serial0 ttyAMA0"),
    (PI1, BULLSEYE, OLD, "ttyAMA0", "keep", ["enable_uart=1"], OLD_FREED, "serial0 ttyAMA0"),
    (PI2, BULLSEYE, CMDLINE, "serial0", "mini", ["enable_uart=1"], FREED, "serial0 ttyAMA0"),
    (CM3, BOOKWORM, CMDLINE, "ttyAMA0", "keep", ["enable_uart=1"], FREED, "serial0 ttyAMA0"),
    (CM4S, BOOKWORM, CMDLINE, "ttyAMA0", "keep", ["enable_uart=1"], FREED, "serial0 ttyAMA0"),
    (ZERO_W, BOOKWORM, CMDLINE, "serial0", "keep", ["enable_uart=1"], FREED, "serial0 ttyS0"),
    (ZERO_2, TRIXIE, CMDLINE, "ttyS0", "keep", ["enable_uart=1"], FREED, "serial0 ttyS0"),
    (PI3, BULLSEYE, OLD, "ttyS0", "keep", ["enable_uart=1"], OLD_FREED, "serial0 ttyS0"),
    (
        *(PI3, BULLSEYE, CMDLINE, "ttyAMA0", "off"),
        *(["enable_uart=1", "dtoverlay=disable-bt"], FREED, "serial0 ttyAMA0"),
    ),
    (
        *(PI3A, BOOKWORM, DESKTOP, "serial0", "mini"),
        *(["enable_uart=1", "dtoverlay=miniuart-bt"], DESKTOP_FREED, "serial0 ttyAMA0"),
    ),
    (
        *(PI4, TRIXIE, CMDLINE, "ttyAMA0", "mini"),
        *(["enable_uart=1", "dtoverlay=miniuart-bt"], FREED, "serial0 ttyAMA0"),
    ),
    (
        *(PI400, TRIXIE, DESKTOP, "serial0", "off"),
        *(["enable_uart=1", "dtoverlay=disable-bt"], DESKTOP_FREED, "serial0 ttyAMA0"),
    ),
    (CM4, BOOKWORM, CMDLINE, "serial0", "keep", ["enable_uart=1"], FREED, "serial0 ttyS0"),
    # An additional UART has neither the console nor Bluetooth.
    (PI4, BOOKWORM, CMDLINE, "ttyAMA2", "off", ["dtoverlay=uart2"], CMDLINE, "ttyAMA2"),
    (PI4, TRIXIE, CMDLINE, "ttyAMA5", "keep", ["dtoverlay=uart5"], CMDLINE, "ttyAMA5"),
    (CM4, TRIXIE, CMDLINE, "ttyAMA3", "keep", ["dtoverlay=uart3"], CMDLINE, "ttyAMA3"),
    # On the 5, serial0 and with it the console is at the debug connector.
    (PI5, BOOKWORM, CMDLINE, "ttyAMA0", "keep", ["dtoverlay=uart0-pi5"], CMDLINE, "ttyAMA0"),
    (PI5, TRIXIE, CMDLINE, "ttyAMA3", "off", ["dtoverlay=uart3-pi5"], CMDLINE, "ttyAMA3"),
    (PI5, TRIXIE, CMDLINE, "ttyAMA10", "keep", [], FREED, "ttyAMA10"),
    (PI500, TRIXIE, DESKTOP, "ttyAMA10", "keep", [], DESKTOP_FREED, "ttyAMA10"),
    (CM5, TRIXIE, CMDLINE, "ttyAMA1", "keep", ["dtoverlay=uart1-pi5"], CMDLINE, "ttyAMA1"),
    # What no port asks for stays.
    (PI4, TRIXIE, CMDLINE, "ttyUSB0", "off", [], CMDLINE, ""),
    (PI4, TRIXIE, CMDLINE, "ttySC0", "off", [], CMDLINE, ""),
]


@pytest.mark.parametrize(
    ("model", "config", "cmdline", "device", "bluetooth", "lines", "freed", "gettys"), FREE
)
def test_a_uart_is_freed_and_given_back(
    model: str,
    config: str,
    cmdline: str,
    device: str,
    bluetooth: str,
    lines: list[str],
    freed: str,
    gettys: str,
) -> None:
    fresh = boot(model, config, cmdline)
    made = plan(fresh, ports(device), bluetooth)
    assert made.faults == ()
    assert added(config, made.config) == lines
    assert made.cmdline == freed
    assert made.kept == ("" if freed == cmdline else cmdline)
    assert (
        made.mask == made.ours == tuple(f"serial-getty@{name}.service" for name in gettys.split())
    )
    assert made.reboot == ((config, cmdline) != (made.config, made.cmdline))

    done = after(fresh, made)
    again = plan(done, ports(device), bluetooth)
    assert (again.write, again.mask, again.unmask, again.reboot) == ((), (), (), False)
    assert after(done, again) == done
    assert after(done, plan(done, [], bluetooth)) == fresh


# What a person wrote, the port, and what is refused.
REFUSED: list[tuple[str, str, str, dict[str, Any], str, str]] = [
    (
        *(PI4, "", "ttyAMA0", {}, "keep"),
        "Bluetooth has this UART; set uart_bluetooth: off, or mini (Bluetooth then has the mini "
        "UART), or write /dev/ttyS0 for the mini UART",
    ),
    (
        *(PI4, "", "ttyS0", {}, "mini"),
        "Bluetooth has this UART; write /dev/ttyAMA0, which is at GPIO 14 and 15",
    ),
    (
        *(PI4, "", "ttyS0", {}, "off"),
        "this UART is at no pins; write /dev/ttyAMA0, which is at GPIO 14 and 15",
    ),
    (
        *(ZERO, "", "ttyS0", {}, "keep"),
        "this UART is at no pins; write /dev/ttyAMA0, which is at GPIO 14 and 15",
    ),
    (
        *(PI3, "dtoverlay=pi3-disable-bt", "ttyS0", {}, "keep"),
        "this UART is at no pins; write /dev/ttyAMA0, which is at GPIO 14 and 15",
    ),
    (
        *(PI4, "", "ttyAMA1", {}, "keep"),
        "this model has no such UART; write one of /dev/serial0, /dev/ttyAMA2, /dev/ttyAMA3, "
        "/dev/ttyAMA4, /dev/ttyAMA5",
    ),
    (
        *(PI3, "", "ttyAMA2", {}, "keep"),
        "this model has no such UART; write one of /dev/serial0",
    ),
    (
        *(PI3, "", "serial1", {}, "keep"),
        "this model has no such UART; write one of /dev/serial0",
    ),
    (
        *(PI5, "", "ttyAMA5", {}, "keep"),
        "this model has no such UART; write one of /dev/ttyAMA10, /dev/ttyAMA0, /dev/ttyAMA1, "
        "/dev/ttyAMA2, /dev/ttyAMA3, /dev/ttyAMA4",
    ),
    (
        *(PI5, "", "serial0", {}, "keep"),
        "on this model the boot loader decides which UART this is; write /dev/ttyAMA0 (GPIO 14 and "
        "15) or /dev/ttyAMA10 (the debug connector)",
    ),
    (
        *(PI4, "enable_uart=0", "serial0", {}, "keep"),
        "config.txt line 1 (enable_uart=0) switches this UART off: delete it",
    ),
    (
        *(PI4, "[all]\n[pi4]\nenable_uart = 0\n[all]", "serial0", {}, "off"),
        "config.txt line 3 (enable_uart=0) switches this UART off: delete it",
    ),
    (
        *(ZERO, "dtparam=audio=on,uart0=off", "ttyAMA0", {}, "keep"),
        "config.txt line 1 (dtparam=audio=on,uart0=off) switches this UART off: delete it",
    ),
    (
        *(PI3, "dtparam=uart1=off", "serial0", {}, "keep"),
        "config.txt line 1 (dtparam=uart1=off) switches this UART off: delete it",
    ),
    (
        *(PI5, "dtparam=uart0=off", "ttyAMA0", {}, "keep"),
        "config.txt line 1 (dtparam=uart0=off) switches this UART off: delete it",
    ),
    (
        *(PI4, "dtoverlay=miniuart-bt", "ttyAMA0", {}, "off"),
        "config.txt line 1 (dtoverlay=miniuart-bt) contradicts uart_bluetooth: off: delete one of "
        "the two",
    ),
    (
        *(PI4, "dtoverlay=uart3", "ttyAMA3", {"flow": "rtscts"}, "keep"),
        "config.txt line 1 (dtoverlay=uart3) leaves out RTS and CTS, which flow: rtscts needs: "
        "add ,ctsrts to it",
    ),
    (
        *(PI4, "dtparam=spi=on", "ttyAMA4", {}, "keep"),
        "config.txt line 1 (dtparam=spi=on) uses GPIO 8, 9, which are this UART's: delete one of "
        "the two",
    ),
    (
        *(PI5, "dtoverlay=w1-gpio", "ttyAMA2", {}, "keep"),
        "config.txt line 1 (dtoverlay=w1-gpio) uses GPIO 4, which are this UART's: delete one of "
        "the two",
    ),
    (
        *(PI5, "dtparam=i2c_arm=on", "ttyAMA1", {"flow": "rtscts"}, "keep"),
        "config.txt line 1 (dtparam=i2c_arm=on) uses GPIO 2, 3, which are this UART's: delete one "
        "of the two",
    ),
    (
        *(PI4, "", "ttyS0", {"parity": "even"}, "keep"),
        "the mini UART has no parity bit: set uart_bluetooth: off and device: /dev/ttyAMA0",
    ),
    (
        *(PI4, "", "ttyS0", {"stopbits": 2}, "keep"),
        "the mini UART has one stop bit only: set uart_bluetooth: off and device: /dev/ttyAMA0",
    ),
    (
        *(PI4, "", "ttyS0", {"bytesize": 5}, "keep"),
        "the mini UART has 7 or 8 data bits only: set uart_bluetooth: off and device: /dev/ttyAMA0",
    ),
    (
        *(PI4, "", "serial0", {"baudrate": 300}, "keep"),
        "the mini UART has no baudrate below 477 at a core clock of 250 MHz: set uart_bluetooth: "
        "off and device: /dev/ttyAMA0",
    ),
    (
        *(PI4, "core_freq=500", "serial0", {"baudrate": 600}, "keep"),
        "the mini UART has no baudrate below 954 at a core clock of 500 MHz: set uart_bluetooth: "
        "off and device: /dev/ttyAMA0",
    ),
]


# model, the user's lines, the UART, the lines that clash with it, and the pins of both.
CLASHES = [
    (PI4, "dtoverlay=pps-gpio,gpiopin=4", "ttyAMA3", "line 1 (dtoverlay=pps-gpio,gpiopin=4)", "4"),
    (PI5, "dtoverlay=pps-gpio,gpiopin=5", "ttyAMA2", "line 1 (dtoverlay=pps-gpio,gpiopin=5)", "5"),
    (PI4, "dtparam=i2c0=on", "ttyAMA2", "line 1 (dtparam=i2c0=on)", "0, 1"),
    (PI4, "dtparam=audio=on,i2c_vc", "ttyAMA2", "line 1 (dtparam=audio=on,i2c_vc)", "0, 1"),
    (
        *(PI4, "dtoverlay=spi0-2cs,cs0_pin=8,cs1_pin=27", "ttyAMA4"),
        *("line 1 (dtoverlay=spi0-2cs,cs0_pin=8,cs1_pin=27)", "8, 9"),
    ),
    (PI4, "dtoverlay=pwm,pin=12,func=4", "ttyAMA5", "line 1 (dtoverlay=pwm,pin=12,func=4)", "12"),
    (PI4, "dtoverlay=i2c3", "ttyAMA3", "line 1 (dtoverlay=i2c3)", "4, 5"),
    (PI4, "gpio=4,5=op,dh", "ttyAMA3", "line 1 (gpio=4,5=op,dh)", "4, 5"),
    (PI4, "gpio=0-27=a2", "ttyAMA2", "line 1 (gpio=0-27=a2)", "0, 1"),
    (PI4, "dtoverlay=merus-amp", "serial0", "line 1 (dtoverlay=merus-amp)", "14, 15"),
    (
        ZERO,
        "dtoverlay=gpio-fan,gpiopin=14",
        "serial0",
        "line 1 (dtoverlay=gpio-fan,gpiopin=14)",
        "14",
    ),
    (PI4, "dtoverlay=uart5,ctsrts", "serial0", "line 1 (dtoverlay=uart5,ctsrts)", "14, 15"),
    (PI4, "gpio=15=a5", "ttyAMA0", "line 1 (gpio=15=a5)", "15"),
    (PI5, "dtoverlay=spi3-1cs", "ttyAMA2", "line 1 (dtoverlay=spi3-1cs)", "4, 5"),
    (
        *(PI4, "dtoverlay=w1-gpio # sensor\n\ndtparam=gpiopin=12", "ttyAMA5"),
        *("line 1 (dtoverlay=w1-gpio) with config.txt line 3 (dtparam=gpiopin=12)", "12"),
    ),
    (PI4, "[pi4]\nenable_dpi_lcd=1", "ttyAMA2", "line 2 (enable_dpi_lcd=1)", "0, 1"),
]


@pytest.mark.parametrize(("model", "config", "device", "line", "pins"), CLASHES)
def test_a_line_that_uses_the_pins_of_a_uart_is_named(
    model: str, config: str, device: str, line: str, pins: str
) -> None:
    bluetooth = "off" if device == "ttyAMA0" else "keep"
    made = plan(boot(model, config), ports(device), bluetooth)
    assert made.faults == (
        f"port p0: device: /dev/{device}: config.txt {line} uses GPIO {pins}, which are this "
        "UART's: delete one of the two",
    )


# Lines beside a UART that leave its pins alone.
BESIDE = [
    (PI4, "dtparam=i2c_arm=on\ndtparam=spi=on\ndtoverlay=hifiberry-dacplus", "ttyAMA3"),
    (PI4, "dtparam=i2c_vc=off\ndtparam=i2c0=0", "ttyAMA2"),
    (PI4, "dtoverlay=w1-gpio\ndtparam=gpiopin=12", "ttyAMA3"),
    (PI4, "dtoverlay=i2c3,pins_2_3", "ttyAMA3"),
    (PI4, "gpio=4,5=pu\ngpio=4-5=a4", "ttyAMA3"),
    (PI5, "gpio=4-5=a2\ndtoverlay=i2c3", "ttyAMA2"),
    (PI5, "dtparam=uart0_console=on\ngpio=14,15=a4", "ttyAMA0"),
    (PI5, "dtoverlay=uart0", "ttyAMA4"),
    (PI4, "dtparam=spi=on\ndtoverlay=spi0-0cs\nenable_dpi_lcd=0", "ttyAMA3"),
    (PI4, "dtoverlay=uart5\ngpio=14-15=a5\ndtoverlay=vc4-kms-v3d", "serial0"),
    (PI3, "dtoverlay=uart0,txd0_pin=14\ngpio=16-17=a3", "ttyAMA0"),
    (PI4, "[pi3]\ndtoverlay=w1-gpio", "ttyAMA3"),
]


@pytest.mark.parametrize(("model", "config", "device"), BESIDE)
def test_lines_that_leave_the_pins_of_a_uart_alone(model: str, config: str, device: str) -> None:
    made = plan(boot(model, config), ports(device), "off" if device == "ttyAMA0" else "keep")
    assert made.faults == ()
    assert not [text for text in made.warnings if "does not know all pins" in text]


@pytest.mark.parametrize(("model", "device"), [(PI4, "ttyAMA3"), (PI5, "ttyAMA2")])
def test_an_overlay_that_is_not_in_the_table_is_warned_of(model: str, device: str) -> None:
    config = "dtoverlay=my-hat,int_pin=5\ndtoverlay=your-hat\ndtparam=reset-gpio=22"
    made = plan(boot(model, config), ports(device))
    assert made.faults == ()
    assert made.warnings == (
        "port p0: ttyfleet does not know all pins of config.txt line 1 "
        "(dtoverlay=my-hat,int_pin=5): it seems to use GPIO 5, which are this UART's",
        "port p0: ttyfleet does not know all pins of config.txt line 2 (dtoverlay=your-hat) with "
        "config.txt line 3 (dtparam=reset-gpio=22): it must not use GPIO 4, 5, which are this "
        "UART's",
    )


def test_an_overlay_that_is_not_in_the_table_is_warned_of_at_the_header() -> None:
    made = plan(boot(ZERO, "dtoverlay=my-hat,led_pin=17"), ports("serial0", flow="rtscts"))
    assert made.warnings[0] == (
        "port p0: ttyfleet does not know all pins of config.txt line 1 "
        "(dtoverlay=my-hat,led_pin=17): it seems to use GPIO 17, which are this UART's"
    )


@pytest.mark.parametrize(("model", "config", "device", "keys", "bluetooth", "said"), REFUSED)
def test_what_cannot_be_had_is_refused(
    model: str, config: str, device: str, keys: dict[str, Any], bluetooth: str, said: str
) -> None:
    made = plan(boot(model, config), ports(device, **keys), bluetooth)
    assert made.faults == (f"port p0: device: /dev/{device}: {said}",)


# The user's own lines do what is needed, or do not matter: what is added to them.
OWN: list[tuple[str, str, str, dict[str, Any], str, list[str]]] = [
    (PI4, "enable_uart=1", "serial0", {}, "keep", []),
    (PI4, "enable_uart=0\nenable_uart=1\r", "serial0", {}, "keep", []),
    (PI4, "[pi4]\nenable_uart=1", "serial0", {}, "keep", []),
    (PI4, "[pi3]\nenable_uart=0", "serial0", {}, "keep", ["enable_uart=1"]),
    (PI4, "[none]\nenable_uart=0", "serial0", {}, "keep", ["enable_uart=1"]),
    (PI4, "[gpio4=1]\n[pi4]\nenable_uart=0", "serial0", {}, "keep", ["enable_uart=1"]),
    (PI4, "#enable_uart=0", "serial0", {}, "keep", ["enable_uart=1"]),
    (PI4, "dtoverlay=disable-bt", "ttyAMA0", {}, "keep", ["enable_uart=1"]),
    (PI4, "dtoverlay=pi3-disable-bt", "ttyAMA0", {}, "off", ["enable_uart=1"]),
    (PI4, "dtoverlay=miniuart-bt,krnbt", "serial0", {}, "keep", ["enable_uart=1"]),
    (PI4, "dtoverlay=uart3", "ttyAMA3", {}, "keep", []),
    (PI4, "dtoverlay=uart3,ctsrts", "ttyAMA3", {"flow": "rtscts"}, "keep", []),
    (PI4, "", "ttyAMA3", {"flow": "rtscts"}, "keep", ["dtoverlay=uart3,ctsrts"]),
    (PI4, "dtparam=spi=off", "ttyAMA4", {}, "keep", ["dtoverlay=uart4"]),
    (PI4, "dtoverlay=w1-gpio,gpiopin=22", "ttyAMA3", {}, "keep", ["dtoverlay=uart3"]),
    (PI4, "[pi5]\ndtparam=spi=on", "ttyAMA4", {}, "keep", ["dtoverlay=uart4"]),
    (PI5, "dtparam=uart0=on", "ttyAMA0", {}, "keep", []),
    (PI5, "dtoverlay=uart0", "ttyAMA0", {}, "keep", []),
    (PI5, "dtparam=uart0", "ttyAMA0", {"flow": "rtscts"}, "off", ["dtoverlay=uart0-pi5,ctsrts"]),
    (PI3A, "[pi3+]\nenable_uart=1", "serial0", {}, "keep", []),
    (PI3, "[pi3+]\nenable_uart=1", "serial0", {}, "keep", ["enable_uart=1"]),
]


@pytest.mark.parametrize(("model", "config", "device", "keys", "bluetooth", "lines"), OWN)
def test_lines_of_the_users_own_count(
    model: str, config: str, device: str, keys: dict[str, Any], bluetooth: str, lines: list[str]
) -> None:
    made = plan(boot(model, config), ports(device, **keys), bluetooth)
    assert made.faults == ()
    assert added(config, made.config) == lines


def test_the_block_for_two_ports() -> None:
    made = plan(boot(PI4, "arm_boost=1\n"), ports("serial0", "ttyAMA3"), "off")
    assert made.config == (
        "# ttyfleet begin: from the port map; write your own lines below the end\n"
        "[all]\n"
        "enable_uart=1\n"
        "dtoverlay=disable-bt\n"
        "dtoverlay=uart3\n"
        "# ttyfleet end\n"
        "arm_boost=1\n"
    )


def test_ports_that_share_a_pin() -> None:
    made = plan(boot(PI4), ports("ttyAMA0", "ttyAMA5", flow="rtscts"), "off")
    assert made.faults == (
        "port p0 (/dev/ttyAMA0) and port p1 (/dev/ttyAMA5) both use GPIO 14, 15",
    )


def test_the_number_of_a_line_counts_our_block() -> None:
    done = after(boot(PI4), plan(boot(PI4), ports("serial0")))
    contrary = replace(done, config=f"{done.config}enable_uart=0\n")
    number = contrary.config.splitlines().index("enable_uart=0") + 1
    assert f"line {number} " in plan(contrary, ports("serial0")).faults[0]


@pytest.mark.parametrize("own", ["dtparam=uart0_console", "dtoverlay=uart0-pi5\nenable_uart=1"])
def test_a_5_whose_console_may_be_at_the_pins(own: str) -> None:
    assert plan(boot(PI5, own), ports("ttyAMA0")).cmdline == FREED
    assert plan(boot(PI5, own), ports("ttyAMA2")).cmdline == CMDLINE


def test_hciuart_is_masked_where_bluetooth_goes_and_there_is_one() -> None:
    for bluetooth, there, masked in (("off", True, 1), ("off", False, 0), ("mini", True, 0)):
        made = plan(boot(PI4, hciuart=there), ports("serial0"), bluetooth)
        assert made.mask.count("hciuart.service") == masked


def test_a_unit_that_the_user_masked_stays_masked() -> None:
    fresh = boot(PI4, masked=("serial-getty@ttyAMA3.service",))
    made = plan(fresh, ports("ttyAMA3"))
    assert (made.mask, made.ours) == ((), ())
    assert plan(after(fresh, made), []).unmask == ()


def test_a_run_that_was_cut_short_before_it_masked_is_finished() -> None:
    cut = boot(PI4, ours=("serial-getty@ttyAMA3.service",))
    made = plan(cut, ports("ttyAMA3"))
    assert made.mask == made.ours == ("serial-getty@ttyAMA3.service",)


def test_a_reboot_stays_needed_until_there_was_one() -> None:
    fresh = boot(PI4)
    done = replace(after(fresh, plan(fresh, ports("serial0"))), reboot=True)
    pending = plan(done, ports("serial0"))
    assert (pending.write, pending.reboot) == ((), True)
    assert "baudrate follows the core clock" in pending.warnings[0]
    assert plan(replace(done, reboot=False), ports("serial0")).warnings == ()


# What is said besides: model, config.txt, device, keys, uart_bluetooth
WARNED: list[tuple[str, str, str, dict[str, Any], str, list[str]]] = [
    (PI4, "", "serial0", {}, "keep", ["the mini UART's baudrate follows the core clock"]),
    (PI4, "", "serial0", {}, "mini", ["Bluetooth at the mini UART needs a fixed core clock"]),
    (PI4, "core_freq=250", "serial0", {}, "mini", []),
    (PI4, "", "serial0", {}, "off", []),
    (PI4, "", "serial0", {"flow": "rtscts"}, "off", ["for RTS and CTS at GPIO 17 and 16, add"]),
    (PI4, "gpio=16-17=a3", "serial0", {"flow": "rtscts"}, "off", []),
    (PI5, "", "ttyS0", {}, "keep", ["/dev/ttyS0 is none of this model's own UARTs ("]),
    (
        "Raspberry Pi 9 Model B",
        "",
        "ttyAMA0",
        {},
        "keep",
        ["Raspberry Pi 9 Model B: ttyfleet does"],
    ),
]


@pytest.mark.parametrize(("model", "config", "device", "keys", "bluetooth", "said"), WARNED)
def test_what_to_know_is_said(
    model: str, config: str, device: str, keys: dict[str, Any], bluetooth: str, said: list[str]
) -> None:
    made = plan(boot(model, config), ports(device, **keys), bluetooth)
    assert made.faults == ()
    assert len(made.warnings) == len(said)
    for words, warning in zip(said, made.warnings, strict=True):
        assert f"port p0: {words}" in warning


def test_a_machine_that_is_no_pi() -> None:
    pc = Boot(running="root=/dev/sda1 console=ttyS0,115200 console=tty0")
    made = plan(pc, ports("ttyS0", "ttyUSB0"), "off")
    assert made == Plan(
        "",
        "",
        "",
        mask=("serial-getty@ttyS0.service",),
        ours=("serial-getty@ttyS0.service",),
        warnings=(
            "/dev/ttyS0 is the kernel's console: take console=ttyS0 off the kernel's command line, "
            "in the boot loader's configuration",
        ),
    )


def test_a_pi_without_boot_files_only_has_its_login_prompt_masked() -> None:
    made = plan(Boot(PI4), ports("ttyAMA0"), "off")
    assert (made.config, made.faults) == ("", ())
    assert made.mask == ("serial-getty@ttyAMA0.service",)


@pytest.mark.parametrize("model", ["Raspberry Pi 9", ""])
def test_on_an_unknown_model_the_first_uart_is_enabled_and_others_are_the_users(model: str) -> None:
    strange = boot(model)
    made = plan(strange, ports("ttyAMA0"))
    assert "\nenable_uart=1\n" in made.config
    assert without_block(made.config) == strange.config
    assert "console=serial0" not in made.cmdline
    assert made.mask == ("serial-getty@serial0.service", "serial-getty@ttyAMA0.service")
    assert after(after(strange, made), plan(after(strange, made), [])) == strange
    assert plan(strange, ports("ttyAMA3")).config == strange.config
    off = replace(strange, config="[all]\nenable_uart=0\n")
    assert plan(off, ports("ttyS0")).faults == (
        "port p0: device: /dev/ttyS0: config.txt line 2 (enable_uart=0) switches this UART off: "
        "delete it",
    )


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"writable": False}, "/boot/firmware is read-only: "),
        ({"config": "DO NOT EDIT THIS FILE\n\nIt has moved\n"}, "mount /boot/firmware"),
        ({"config": "# ttyfleet begin\nenable_uart=1\n"}, "without its end: delete that line"),
    ],
)
def test_files_that_cannot_be_written(where: dict[str, Any], said: str) -> None:
    before = replace(boot(PI4), **where)
    (fault,) = plan(before, ports("serial0")).faults
    assert said in fault
    assert plan(before, []).faults == ()


def test_bluetooth_is_one_of_its_words() -> None:
    with pytest.raises(ValueError, match="uart_bluetooth: 'no': write one of keep, mini, off"):
        plan(boot(PI4), [], "no")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/dev/ttyAMA0", True),
        ("/dev/ttyAMA10", True),
        ("/dev/ttyS0", True),
        ("/dev/serial0", True),
        ("/dev/ttySC0", False),
        ("/dev/ttyUSB0", False),
        ("/dev/serial/by-name/ups", False),
    ],
)
def test_which_devices_are_on_board(path: str, own: bool) -> None:
    assert on_board(path) == own


@pytest.mark.parametrize(
    ("cmdline", "freed"),
    [
        ("quiet console=serial0,115200\n", "quiet console=tty1\n"),
        ("console=serial0,115200 quiet", "console=tty1 quiet"),
        ("console=serial0\r\n", "console=tty1\r\n"),
        ("a  b console=serial0 console=tty1  c\n", "a  b console=tty1  c\n"),
        ("console=tty1 console=serial0,9600\nconsole=serial0\n", "console=tty1\nconsole=serial0\n"),
        ("myconsole=serial0 console=serial01\n", "myconsole=serial0 console=serial01\n"),
        ("", ""),
    ],
)
def test_a_console_is_taken_out_and_put_back(cmdline: str, freed: str) -> None:
    assert without_consoles(cmdline, ["serial0"]) == freed
    assert with_consoles(freed, cmdline) == cmdline


def test_words_that_were_added_since_stay_when_the_console_comes_back() -> None:
    now = FREED.replace("rootwait", "rootwait cfg80211.ieee80211_regdom=GB")
    assert with_consoles(now, CMDLINE) == CMDLINE.replace(
        "rootwait", "rootwait cfg80211.ieee80211_regdom=GB"
    )
    done = plan(boot(PI4, cmdline=now, kept=CMDLINE), ports("serial0"))
    assert done.cmdline == now
    assert "regdom=GB" in done.kept


def test_a_console_that_somebody_put_back_is_taken_out_again() -> None:
    made = plan(boot(PI4, cmdline=CMDLINE, kept=CMDLINE), ports("serial0"))
    assert (made.cmdline, made.kept) == (FREED, CMDLINE)


# Lines as people write them, and anything else but our own marks.
LINES = st.one_of(
    st.sampled_from(
        [
            *("enable_uart=1", "dtoverlay=uart3", "[pi4]", "[all]", "[none]", "[0x1234]", ""),
            *("dtparam=spi=on", "dtoverlay=vc4-kms-v3d", "# a comment\r", "core_freq=250", "["),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30),
).filter(lambda line: "ttyfleet" not in line)
CONFIGS = st.builds(
    lambda lines, end: "\n".join(lines) + end, st.lists(LINES), st.sampled_from("\n ")
)
WORDS = st.sampled_from(
    [
        *("console=serial0,115200", "console=ttyAMA0,115200", "console=ttyS0", "console=ttyAMA10"),
        *(
            "console=tty1",
            "console=tty3",
            "kgdboc=ttyAMA0,115200",
            "quiet",
            "rootwait",
            "root=/dev/x",
        ),
    ]
)
CMDLINES = st.builds(
    lambda words, gap, end: gap.join(words) + end,
    st.lists(WORDS, unique=True),
    st.sampled_from([" ", "  ", "\t"]),
    st.sampled_from(["", "\n", "\r\n", "\nsecond line\n"]),
)
DEVICES = st.lists(
    st.sampled_from(["serial0", "ttyAMA0", "ttyAMA3", "ttyAMA10", "ttyUSB0"]),
    unique=True,
    max_size=4,
)


@given(CONFIGS, st.lists(st.sampled_from(["enable_uart=1", "dtoverlay=uart3"]), unique=True))
def test_the_block_goes_in_and_out_without_a_trace(config: str, lines: list[str]) -> None:
    made = with_block(config, lines)
    assert with_block(made, lines) == made
    assert without_block(made) == config
    assert made.endswith(config)


@given(st.sampled_from(MODELS), CONFIGS, CMDLINES, DEVICES, DEVICES, st.sampled_from(BLUETOOTH))
def test_any_maps_one_after_the_other_end_as_the_last_alone(
    model: str, config: str, cmdline: str, first: list[str], last: list[str], bluetooth: str
) -> None:
    fresh = boot(model, config, cmdline, hciuart=True)
    before = after(fresh, plan(fresh, ports(*first), bluetooth))
    alone = after(fresh, plan(fresh, ports(*last), bluetooth))
    both = after(before, plan(before, ports(*last), bluetooth))
    assert both == alone
    assert plan(both, ports(*last), bluetooth).write == ()
    assert after(both, plan(both, [], bluetooth)) == fresh
