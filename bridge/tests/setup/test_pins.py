"""The table of the pins that overlays use."""

from __future__ import annotations

import pytest

from ttybridge.setup.pins import _PINS_OF, buses_of, is_listed, knows, likely_pins, pins_of


def words(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in text.split())}


# overlay, its parameters, whether the model is a Raspberry Pi 5, and the pins up to 17.
USES: list[tuple[str, str, bool, set[int]]] = [
    ("w1-gpio", "", False, {4}),
    ("w1-gpio", "gpiopin=12 pullup=on", False, {12}),
    ("w1-gpio", "gpiopin=0x11", False, {17}),
    ("w1-gpio", "gpiopin=08", False, {8}),
    ("w1-gpio", "gpiopin", False, set()),
    ("w1-gpio-pullup", "", True, {4, 5}),
    ("spi0-1cs", "cs0_pin=25 no_miso", False, {10, 11}),
    ("mcp2515", "spi0-1 interrupt=16", False, {7, 8, 9, 10, 11, 16}),
    ("mcp2515", "spi1-1 interrupt=25", False, set()),
    ("mcp23s17", "s17-spi0-0-present=1 s17-spi0-0-int-gpio=6", False, {6, 7, 8, 9, 10, 11}),
    ("i2c-rtc", "ds3231", False, {2, 3}),
    ("i2c-rtc", "ds3231 i2c0", False, {0, 1}),
    ("i2c-rtc", "ds3231 i2c_csi_dsi", False, set()),
    ("i2c3", "", False, {4, 5}),
    ("i2c3", "pins_2_3", False, {2, 3}),
    ("i2c3", "", True, {6, 7}),
    ("i2c3-pi5", "pins_14_15", True, {14, 15}),
    ("uart4", "", False, {8, 9}),
    ("uart4", "", True, {12, 13}),
    ("uart4", "ctsrts=on", True, {12, 13, 14, 15}),
    ("uart4", "ctsrts=off", True, {12, 13}),
    ("mcp23017", "noints", False, {2, 3}),
    ("max98357a", "sdmode-pin=12", False, {12}),
    ("audremap", "swap_lr", True, {12, 13}),
    ("audremap", "pins_18_19", False, set()),
    ("imx219", "cam0", False, {0, 1}),
    ("imx219", "cam0", True, set()),
    ("imx219", "rotation=0", False, set()),
    ("dtparam", "i2c_csi_dsi0=on", True, set()),
    ("dtparam", "act_led_gpio=5", False, {5}),
    ("dtparam", "uart0", True, {14, 15}),
    ("vc4-kms-dpi-generic", "rgb666-padhi", False, {*range(18)} - {10, 11}),
    ("vc4-kms-v3d", "cma-512", False, set()),
]


@pytest.mark.parametrize(("overlay", "given", "rp1", "pins"), USES)
def test_what_an_overlay_uses(overlay: str, given: str, rp1: bool, pins: set[int]) -> None:
    assert {pin for pin in pins_of(overlay, words(given), rp1=rp1) if pin < 18} == pins


@pytest.mark.parametrize("rp1", [False, True])
@pytest.mark.parametrize("overlay", sorted(_PINS_OF))
def test_the_table_can_be_read(overlay: str, rp1: bool) -> None:
    assert is_listed(overlay, rp1=rp1)
    assert all(0 <= pin <= 45 for pin in pins_of(overlay, {}, rp1=rp1))


def test_an_overlay_of_a_bus_says_its_pins_for_all() -> None:
    assert buses_of("spi0-1cs") == buses_of("spi0-1cs-inverted") == {"spi0"}
    assert buses_of("i2c1") == buses_of("i2c1-pi5") == {"i2c1"}
    assert buses_of("spi0-led") == buses_of("i2c-gpio") == frozenset()
    assert pins_of("hifiberry-amp100", {}, moved={"i2c1"}) == {4, 17}


def test_which_parameters_the_table_has() -> None:
    assert knows("w1-gpio", "gpiopin")
    assert knows("i2c3", "pins_2_3")
    assert knows("max98357a", "no-sdmode")
    assert knows("uart2", "ctsrts", rp1=True)
    assert not knows("w1-gpio", "pullup")
    assert not knows("my-hat", "gpiopin")
    assert not is_listed("my-hat")


@pytest.mark.parametrize(
    ("given", "pins"),
    [
        ("int_pin=5", {5}),
        ("reset-gpio=6 gpio_pull=2", {6}),
        ("interrupt=24 irq=7", {7, 24}),
        ("pins_4_5", {4, 5}),
        ("gpiopin=500", set()),
        ("mapping=4 speed=5", set()),
        ("pin=on", set()),
    ],
)
def test_what_the_names_of_parameters_tell(given: str, pins: set[int]) -> None:
    assert likely_pins("my-hat", words(given)) == pins


def test_what_the_table_has_is_not_guessed() -> None:
    assert likely_pins("w1-gpio", words("gpiopin=4")) == frozenset()
    assert likely_pins("w1-gpio", words("new_pin=4")) == {4}
