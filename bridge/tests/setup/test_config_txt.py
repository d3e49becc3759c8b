"""Lines of config.txt, and which of them use a pin together."""

from __future__ import annotations

from ttybridge.setup.config_txt import Line, last, loaded, uses


def lines(text: str) -> list[Line]:
    pairs = (line.partition("=") for line in text.splitlines())
    return [Line(number, key, value) for number, (key, _, value) in enumerate(pairs, start=1)]


def used(text: str, *, rp1: bool = False) -> list[tuple[str, str, list[int]]]:
    return [
        ("+".join(str(line.number) for line in use.lines), use.what, sorted(use.pins))
        for use in uses(lines(text), rp1=rp1)
        if use.pins
    ]


def test_a_parameter_is_about_the_overlay_before_it_or_the_base() -> None:
    text = "dtparam=gpiopin=9\ndtoverlay=w1-gpio\ndtparam=gpiopin=12\ndtparam=i2c_arm=on\n"
    assert used(text) == [("4", "i2c_arm", [2, 3]), ("2+3", "w1-gpio", [12])]


def test_an_empty_overlay_ends_the_parameters_of_the_one_before() -> None:
    text = "dtoverlay=w1-gpio\ndtoverlay=\ndtparam=gpiopin=12"
    assert used(text) == [("1", "w1-gpio", [4])]


def test_overlays_can_be_loaded_more_than_once() -> None:
    text = "dtoverlay=gpio-key,gpio=5\ndtoverlay=gpio-key,gpio=6,keycode=4"
    assert used(text) == [("1", "gpio-key", [5]), ("2", "gpio-key", [6])]


def test_an_overlay_named_after_a_bus_moves_it_for_all() -> None:
    text = "dtparam=spi=on\ndtoverlay=spi0-1cs,cs0_pin=22\ndtoverlay=enc28j60"
    assert used(text) == [("2", "spi0-1cs", [9, 10, 11, 22]), ("3", "enc28j60", [25])]


def test_what_a_gpio_line_uses() -> None:
    assert used("gpio=4,8-10=op,dh") == [("1", "op", [4, 8, 9, 10])]
    assert used("gpio=4=pu,dl") == []
    assert used("gpio=14-15=a0") == [("1", "a0", [14, 15])]


def test_the_last_line_counts() -> None:
    found = lines("enable_uart=0\ndtoverlay=pi3-disable-bt\nenable_uart=1\ndtparam=audio=on,spi=on")
    assert str(last(found, "enable_uart")) == "config.txt line 3 (enable_uart=1)"
    assert last(found, "dtparam", "spi") == found[3]
    assert last(found, "dtparam", "i2c") is None
    assert loaded(found, "disable-bt") == found[1]
    assert loaded(found, "miniuart-bt") is None
