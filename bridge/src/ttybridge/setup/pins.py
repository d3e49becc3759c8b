"""Which GPIOs of a Raspberry Pi the overlays and parameters of config.txt use.

One table, from the firmware's documentation of the overlays (overlays/README) and, for the HATs
that it does not describe, from their device trees. It has every overlay that can use one of the
GPIOs 0 to 17: no UART is at a higher one, so of those it has only what a parameter can move.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

# The pins of a bus with its usual wiring. csi0 is the I2C bus of the second camera connector, which
# before the Raspberry Pi 5 is I2C 0 at the header.
_BUSES = {"i2c0": "0-1", "i2c1": "2-3", "spi0": "7-11", "csi0": "0-1"}

# What chooses among the I2C buses; without such a word it is I2C 1. The pins of I2C 2 to 6 are
# those of the overlays with their names.
_I2C = (
    "i2c1!i2c0!i2c2!i2c3!i2c4!i2c5!i2c6!i2c_csi_dsi!i2c_csi_dsi0!i2c-path i2c0?i2c0 "
    "i2c_csi_dsi0?csi0"
)

# A line has the names of overlays, a colon, and what they use:
#   4-7 or spi0     these pins, or those of this bus
#   gpiopin=4       the pin that this parameter names; 4 if it is not given
#   interrupt=      the pin that this parameter names, if it is given
#   ctsrts?2-3      these pins if this parameter is given and not off
#   9!no_miso       these pins unless this parameter is given
# A name may have an asterisk. `dtparam` is the base device tree. On a Raspberry Pi 5 a name with
# -pi5 counts before the one without.
_TABLE = f"""
dtparam: spi?spi0 i2c?i2c1 i2c_arm?i2c1 i2c1?i2c1 i2c_vc?i2c0 i2c0?i2c0 i2c_csi_dsi0?csi0
dtparam: act_led_gpio= pwr_led_gpio= cam0_reg_gpio= cam1_reg_gpio=
dtparam-pi5: spi?spi0 i2c?i2c1 i2c_arm?i2c1 i2c1?i2c1 i2c_vc?i2c0 i2c0?i2c0
dtparam-pi5: uart0?14-15 uart0_console?14-15 act_led_gpio= pwr_led_gpio= cam0_reg_gpio=
dtparam-pi5: cam1_reg_gpio=

uart0: txd0_pin=14 rxd0_pin=15
uart1: txd1_pin=14 rxd1_pin=15
uart2: 0-1 ctsrts?2-3 rs485?2-3
uart3: 4-5 ctsrts?6-7 rs485?6-7
uart4: 8-9 ctsrts?10-11 rs485?10-11
uart5: 12-13 ctsrts?14-15 rs485?14-15
uart0-pi5: 14-15 ctsrts?16-17
uart1-pi5: 0-1 ctsrts?2-3
uart2-pi5: 4-5 ctsrts?6-7
uart3-pi5: 8-9 ctsrts?10-11
uart4-pi5: 12-13 ctsrts?14-15
qca7000-uart0: 14-15
rpi-fw-uart: txd0_pin=20 rxd0_pin=21

i2c0 i2c0-bcm2708: 0-1!pins_28_29!pins_44_45!pins_46_47!sda0_pin sda0_pin= scl0_pin=
i2c1 i2c1-bcm2708: 2-3!pins_44_45!sda1_pin sda1_pin= scl1_pin=
i2c3: 4-5!pins_2_3 pins_2_3?2-3
i2c4: 8-9!pins_6_7 pins_6_7?6-7
i2c5: 12-13!pins_10_11 pins_10_11?10-11
i2c6: 22-23!pins_0_1 pins_0_1?0-1
i2c0-pi5: 0-1!pins_8_9 pins_8_9?8-9
i2c1-pi5: 2-3!pins_10_11 pins_10_11?10-11
i2c2-pi5: 4-5!pins_12_13 pins_12_13?12-13
i2c3-pi5: 6-7!pins_14_15!pins_22_23 pins_14_15?14-15 pins_22_23?22-23
cm-swap-i2c0: i2c0-gpio0?0-1 0-1!i2c10-gpio28!i2c10-gpio44
i2c-gpio: i2c_gpio_sda=23 i2c_gpio_scl=24
i2c-rtc-gpio: i2c_gpio_sda=23 i2c_gpio_scl=24
i2c-bcm2708: i2c1

spi0-0cs: 10-11 9!no_miso
spi0-1cs spi0-1cs-inverted: 10-11 9!no_miso cs0_pin=8
spi0-2cs spi0-cs: 10-11 9!no_miso cs0_pin=8 cs1_pin=7
spi1-1cs: 19-21 cs0_pin=18
spi1-2cs: 19-21 cs0_pin=18 cs1_pin=17
spi1-3cs: 19-21 cs0_pin=18 cs1_pin=17 cs2_pin=16
spi2-1cs: cs0_pin=43
spi2-2cs: cs0_pin=43 cs1_pin=44
spi2-3cs: cs0_pin=43 cs1_pin=44 cs2_pin=45
spi2-1cs-pi5: 1-3 cs0_pin=0
spi2-2cs-pi5: 1-3 cs0_pin=0 cs1_pin=24
spi3-1cs: 1-3 cs0_pin=0
spi3-2cs: 1-3 cs0_pin=0 cs1_pin=24
spi3-1cs-pi5: 5-7 cs0_pin=4
spi3-2cs-pi5: 5-7 cs0_pin=4 cs1_pin=25
spi4-1cs: 5-7 cs0_pin=4
spi4-2cs: 5-7 cs0_pin=4 cs1_pin=25
spi5-1cs: 13-15 cs0_pin=12
spi5-2cs: 13-15 cs0_pin=12 cs1_pin=26
spi6-1cs: 19-21 cs0_pin=18
spi6-2cs: 19-21 cs0_pin=18 cs1_pin=27

w1-gpio: gpiopin=4
w1-gpio-pullup: gpiopin=4 extpullup=5
pps-gpio: gpiopin=18
dht11: gpiopin=4
act-led pi3-act-led: gpio=
gpio-fan: gpiopin=12
pwm-gpio-fan: fan_gpio=18
gpio-ir gpio-ir-tx: gpio_pin=18
pwm-ir-tx: gpio_pin=18
lirc-rpi: gpio_out_pin=17 gpio_in_pin=18
gpio-key: gpio=3
gpio-led: gpio=19
gpio-hog: gpio=26
gpio-charger: gpio=4
gpio-poweroff: gpiopin=26
gpio-shutdown: gpio_pin=3
hdmi-backlight-hwhack-gpio: gpio_pin=17
hd44780-lcd: pin_d4=6 pin_d5=13 pin_d6=19 pin_d7=26 pin_en=21 pin_rs=20 pin_bl=
rotary-encoder: pin_a=4 pin_b=17
fsm-demo: 7-8 25
pwm: pin=18
pwm-2chan: pin=18 pin2=19
pwm-gpio pwm-pio ws2812-pio: gpio=4
audremap: 12-13!pins_18_19!pins_40_41!pins_40_45
sunfounder-pipower3: poweroff_pin=26
sunfounder-pironman5: spi0 i2c1 ir_pins=13

dpi18 vc4-kms-dpi-at056tn53v1: 0-21
dpi18cpadhi: 0-9 12-17 20-25
dpi24: 0-27
vga666: 2-21
vc4-kms-vga666: 2-21 ddc?0-1
vc4-kms-dpi-generic: 0-8 12-17 9!rgb565-padhi 10-11!rgb565-padhi!bgr666-padhi!rgb666-padhi
vc4-kms-dpi-generic: backlight-gpio= backlight-pwm-gpio=
vc4-kms-dpi-panel vc4-kms-kippah-7inch: 0-9 12-17 backlight-gpio= backlight-pwm-gpio=
vc4-kms-dpi-hyperpixel2r vc4-kms-dpi-hyperpixel4 vc4-kms-dpi-hyperpixel4sq: 0-17
vc4-kms-dsi-lt070me05000: reset=17 enable=4 dcdc-en=5
vc4-kms-dsi-waveshare-panel: i2c1?i2c1 dsi0?csi0
vc4-kms-dsi-*: dsi0?csi0
edt-ft5406: i2c1?i2c1 i2c0?i2c0 i2c_csi_dsi0?csi0
imx* ov* irs1125 arducam-* tc358743 camera-mux-*: cam0?csi0
smi smi-nand: 2-25
sdio: 22-27!gpios_34_37!gpios_34_39

i2c-rtc i2c-fan i2c-mux i2c-pwm-pca9685a pca953x pcf857x ads1115: {_I2C}
i2c-sensor: int_pin= reset_pin= {_I2C}
mcp23017: gpiopin=4!noints {_I2C}
sc16is750-i2c sc16is752-i2c: int_pin=24 {_I2C}
apds9960: gpiopin=4!noints i2c1
cap1106: int_pin=23 i2c1
chipcap2: ready_pin=4 low_pin=5 high_pin=6 reg_pin=26 i2c1
exc3000: interrupt=4 i2c1
ilitek251x: interrupt=4 i2c1!i2c-path
goodix: interrupt=4 reset=17 i2c1!i2c-path
iqs550: interrupt=4 reset= i2c1
mpu6050: interrupt=4 i2c1
sx150x: *-int-gpio= i2c1
ads1015 bmp085_i2c-sensor mcp342x mlx90640 ltc294x piglow ssd1306: i2c1
ds1307-rtc pcf2127-rtc pcf8523-rtc pcf8563-rtc tpm-slb9673: i2c1
rpi-sense rpi-sense-v2: i2c1
wittypi: led_gpio=17 i2c1
pimidi: i2c1 5-6
hd44780-i2c-lcd: pin_*= i2c1!i2c-path

mcp2515 mcp251xfd: *spi0-*?spi0 interrupt= rx_interrupt= xceiver_enable=
mcp2515-can0 mcp2515-can1: spi0 interrupt=25
mcp3008 mcp3202 maxtherm anyspi jedec-spi-nor: *spi0-*?spi0
mcp23s17: *spi0-*?spi0 *-int-gpio=
fbtft: spi0-*?spi0 reset_pin= dc_pin= led_pin=
mipi-dbi-spi: spi0-*?spi0 reset-gpio= dc-gpio= backlight-gpio= backlight-pwm-gpio=
spi-rtc: spi0!spi1_0!spi1_1!spi2_0!spi2_1
ads7846: spi0 penirq=
at86rf233: spi0 interrupt=23 reset=24 sleep=25
enc28j60 w5500: spi0 int_pin=25
enc28j60-spi2: int_pin=39
qca7000: spi0 int_pin=23
sc16is750-spi0 sc16is752-spi0: spi0 int_pin=24
sc16is752-spi1: 18-21 int_pin=24
si446x-spi0: spi0 int_pin=17 reset_pin=27
adafruit-st7735r adafruit18: spi0 dc_pin=24 reset_pin=25 led_pin=18
sainsmart18 sh1106-spi ssd13*-spi: spi0 dc_pin=24 reset_pin=25
gc9a01 minipitft13 pitft22 pitft28-resistive pitft35-resistive rpi-tv tpm-slb9670: spi0
pifacedigital: spi0
pitft28-capacitive: spi0 i2c1
piscreen piscreen2r: spi0 17
hy28a hy28b hy28b-2017: spi0 17 resetgpio=25 ledgpio=18
mz61581: spi0 4 15
media-center: spi0 5-6 backlight=12 gpio_out_pin= gpio_in_pin=
rpi-display watterott-display: spi0 backlight=18
tinylcd35: spi0 touchgpio=5 keypad?4 keypad?17 rtc-pcf?i2c1 rtc-ds?i2c1
papirus: spi0 i2c1 14-15
waveshare35a waveshare35b waveshare35c waveshare32b tft35a mhs35 mhs24 mhs32: spi0 17
seeed-can-fd-hat-v1: spi0
seeed-can-fd-hat-v2: spi0 i2c1
waveshare-can-fd-hat-mode-a waveshare-can-fd-hat-mode-b: spi0 16
rootmaster: spi0 4

adau1977-adc audioinjector-wm8731-audio audioinjector-ultra ezsound-6x8iso i-sabre-q2m: i2c1
akkordion-iqdacplus allo-katana-dac-audio allo-piano-dac-pcm512x-audio audiosense-pi: i2c1
dacberry400 dionaudio-loco-v2 fe-pi-audio hifiberry-amp hifiberry-dacplus: i2c1
hifiberry-dacplus-pro hifiberry-dacplus-std hifiberry-dacplusadc: i2c1
hifiberry-dacplusadcpro hifiberry-digi: i2c1
iqaudio-codec iqaudio-dac iqaudio-dacplus iqaudio-digi-wm8804-audio: i2c1
justboom-both justboom-dac justboom-digi mbed-dac pifi-40 pifi-dac-hd pifi-mini-210: i2c1
rpi-codeczero rpi-dacplus rpi-dacpro rpi-digiampplus rpi-proto proto-codec: i2c1
seeed-2mic-voicecard seeed-4mic-voicecard seeed-8mic-voicecard wm8960-soundcard: i2c1
interludeaudio-analog: i2c1 gpiopin=24
interludeaudio-digital: i2c1 6 12-13
superaudioboard: i2c1 gpiopin=22
allo-boss-dac-pcm512x-audio allo-piano-dac-plus-pcm512x-audio: i2c1 6
allo-boss2-dac-audio: i2c1 5-6
allo-digione: i2c1 5-6 17
audioinjector-addons: i2c1 5
audioinjector-isolated-soundcard: i2c1 5 17
chipdip-dac: 4-6 12-13
cirrus-wm5102: spi0 i2c1 17
draws: i2c1 4 7 13 17
udrc: i2c1 4 13
ghost-amp: i2c1 5
googlevoicehat-soundcard: 16
hifiberry-amp100: i2c1 4 17
hifiberry-amp3 hifiberry-amp4pro: i2c1 4
hifiberry-dacplushd: i2c1 16
hifiberry-digi-pro: i2c1 5-6
max98357a: sdmode-pin=4!no-sdmode
merus-amp: i2c1 8 14-15 17
pisound: spi0 12-13 16-17
pisound-micro: i2c1 16
"""

_PIN = re.compile(r"gpio|pin(?!g)|interrupt|irq")
_NO_PIN = re.compile(r"pull|func|active|level|delay|debounce|edge|type|bus|label|export|present")
_HIGHEST = 57


def pins_of(
    overlay: str, words: Mapping[str, str], *, rp1: bool = False, moved: Collection[str] = ()
) -> frozenset[int]:
    """Return the GPIOs that an overlay uses with these parameters, or `dtparam`'s.

    `words` has each parameter with its value, or "". `rp1` says that the model is a Raspberry Pi 5.
    `moved` are buses whose pins another overlay sets (`buses_of`); they are left out.
    """
    pins: set[int] = set()
    for token in _tokens(overlay, rp1):
        pins |= _pins_of_token(token, words, rp1, moved)
    return frozenset(pins)


def buses_of(overlay: str) -> frozenset[str]:
    """Return the buses whose pins an overlay sets for all that use them, such as spi0-1cs."""
    return frozenset(bus for bus in _BUSES if re.fullmatch(rf"{bus}(-\dcs.*|-pi5)?", overlay))


def knows(overlay: str, word: str, *, rp1: bool = False) -> bool:
    """Return whether the table has this parameter of an overlay."""
    return any(_concerns(token, word) for token in _tokens(overlay, rp1))


def is_listed(overlay: str, *, rp1: bool = False) -> bool:
    """Return whether the table has an overlay."""
    return bool(_tokens(overlay, rp1))


def likely_pins(overlay: str, words: Mapping[str, str], *, rp1: bool = False) -> frozenset[int]:
    """Return the GPIOs that parameters which the table lacks name, as far as their names tell."""
    pins: set[int] = set()
    for word, value in words.items():
        if knows(overlay, word, rp1=rp1) or _NO_PIN.search(word) or not _PIN.search(word):
            continue
        number = _number(value)
        if number is not None:
            pins.add(number)
        elif not value and (numbers := re.fullmatch(r"pins?((?:_[0-9]+)+)", word)):
            pins.update(map(int, numbers[1].split("_")[1:]))
    return frozenset(pin for pin in pins if pin <= _HIGHEST)


def _read_table() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for line in filter(None, _TABLE.split("\n")):
        names, _, tokens = line.partition(": ")
        for name in names.split():
            table[name] = (*table.get(name, ()), *tokens.split())
    return table


_PINS_OF = _read_table()


def _tokens(overlay: str, rp1: bool) -> tuple[str, ...]:
    names = (f"{overlay.removesuffix('-pi5')}-pi5", overlay.removesuffix("-pi5"))
    for name in names if rp1 else (overlay,):
        if name in _PINS_OF:
            return _PINS_OF[name]
    patterns = (pattern for pattern in _PINS_OF if "*" in pattern)
    return next((_PINS_OF[one] for one in patterns if fnmatchcase(overlay, one)), ())


def _concerns(token: str, word: str) -> bool:
    """Whether a token of the table is about a parameter."""
    kept, *unless = token.split("!")
    name = re.split("[=?]", kept)[0] if re.search("[=?]", kept) else ""
    return word in unless or bool(name and fnmatchcase(word, name))


def _pins_of_token(
    token: str, words: Mapping[str, str], rp1: bool, moved: Collection[str]
) -> set[int]:
    used, *unless = token.split("!")
    if any(_is_on(words.get(word)) for word in unless):
        return set()
    if "=" in used:
        name, _, default = used.partition("=")
        values = [value for word, value in words.items() if fnmatchcase(word, name)]
        return {pin for value in values or [default] if (pin := _number(value)) is not None}
    name, question, pins = used.rpartition("?")
    given = [value for word, value in words.items() if fnmatchcase(word, name)]
    if question and not any(map(_is_on, given)):
        return set()
    if pins in moved or (rp1 and pins == "csi0"):
        return set()
    first, _, last = _BUSES.get(pins, pins).partition("-")
    return set(range(int(first), int(last or first) + 1))


def _is_on(value: str | None) -> bool:
    """Whether a parameter that switches something is given, and not off."""
    return value is not None and value.lower() not in ("off", "no", "n", "false", "0")


def _number(value: str) -> int | None:
    try:
        return int(value, 0)
    except ValueError:
        return int(value) if value.isdecimal() else None
