"""The unit of an answer. Different units mean different answers; units are not converted."""

from __future__ import annotations

import re

from prefix_opd.grading.notation import COMMANDS

Unit = dict[str, int]
"""The power of each unit: {"m": 1, "s": -2}."""

_PREFIXES = {"": "", "kilo": "k", "centi": "c", "milli": "m", "deci": "d", "mega": "M",
             "micro": "u", "nano": "n", "pico": "p", "giga": "G", "tera": "T"}  # fmt: skip
_BASES = {
    "meter": "m", "metre": "m", "gram": "g", "liter": "L", "litre": "L", "second": "s", "newton": "N", "joule": "J",
    "watt": "W", "volt": "V", "ampere": "A", "amp": "A", "hertz": "Hz", "pascal": "Pa", "mole": "mol", "kelvin": "K",
    "ohm": "ohm", "tesla": "T", "weber": "Wb", "henry": "H", "farad": "F", "coulomb": "C", "electronvolt": "eV",
    "calorie": "cal", "byte": "B", "bit": "bit",
}  # fmt: skip
_WORDS = {f"{prefix}{base}": short + unit for prefix, short in _PREFIXES.items() for base, unit in _BASES.items()} | {
    "inch": "in", "inche": "in", "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi", "minute": "min", "hour": "h",
    "gallon": "gal", "ton": "t", "tonne": "t", "dollar": "$", "buck": "$", "radian": "rad", "celsius": "C",
    "fahrenheit": "F", "yuan": "yen", "ounce": "oz",
}  # fmt: skip
_SAME = "pound day week month year quart pint cup teaspoon tablespoon cent euro degree angstrom rupee yen"
_WORDS |= {word: word for word in re.findall(r"\w+", _SAME)}
_SYMBOLS = {prefix + unit: prefix + unit for prefix in _PREFIXES.values() for unit in _BASES.values()} | {
    **{unit: unit for unit in ("kWh", "min", "h", "rad", "in", "ft", "yd", "mi", "lb", "oz", "gal", "atm", "bar")},
    "sec": "s", "secs": "s", "hr": "h", "hrs": "h", "mins": "min", "l": "L", "ml": "mL", "lbs": "lb", "deg": "degree",
    "yr": "year", "yrs": "year", "USD": "$", "EUR": "euro", "GBP": "£", "JPY": "yen", "INR": "rupee", "kgs": "kg",
    "kms": "km", "cms": "cm", "kilo": "kg", "kilos": "kg",
}  # fmt: skip
_SPEEDS = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1}, "kmph": {"km": 1, "h": -1}}
_SPEEDS |= {"M": {"mol": 1, "L": -1}}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_RAISED = {"squared": 2, "cubed": 3}

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"\\(?:{COMMANDS})\s*\{{([^{{}}]*)\}}", r" \1 "),
        (r"\\[,;:! ]|~|\\q?quad(?![A-Za-z])", " "),
        (r"\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|[*⋅]", "·"),
        (r"\^\s*\{\s*(-?\d)\s*\}", r"^\1"),
        (r"\\mu(?![A-Za-z])\s*|[µμ]", "u"),
        (r"(?:\b([kMm])\s*)?(?:\\Omega(?![A-Za-z])|[\u2126\u03a9])", r" \1ohm "),
        (r"\\AA(?![A-Za-z])|[\u00c5\u212b]", " angstrom "),
        *((digit, f"^{power}") for power, digit in enumerate("¹²³", 1)),
        (r"⁻\^", "^-"),
        (r"\\[dt]?frac\s*\{([A-Za-z\s]+)\}\s*\{([A-Za-z\s]+(?:\^\d\s*)?)\}", r" \1/\2 "),
        (r"\^\s*\{?\s*\\circ(?![A-Za-z])\s*\}?|\\degree(?![A-Za-z])|[°º]", " degree "),
        (r"\b(?:degrees?|deg)\s+(?:C|[Cc]elsius)(?![A-Za-z])|℃", " C "),
        (r"\b(?:degrees?|deg)\s+(?:F|[Ff]ahrenheit)(?![A-Za-z])|℉", " F "),
        (r"\\(?:cents?|textcent)(?![A-Za-z])|¢", " cent "),
        (r"\\pi(?![A-Za-z])", "π"),
        (r"\s(?:long|tall|wide|high|deep|away|old|altogether|total|in (?:total|all|length|area|volume))\W*$", ""),
    )
]
_MONEY = {"$": re.compile(r"^[^\w\\$]*\\?\$\s*[\d.]"), "euro": re.compile(r"€|\\euro"), "rupee": re.compile("₹")}
_MONEY |= {"£": re.compile(r"£|\\pounds"), "yen": re.compile(r"[¥￥]|\\yen")}  # ¥ may be yuan
_TAIL = re.compile(r"[\d)\]}%π](?P<space>\s*)(?P<unit>(?:/\s*)?[A-Za-z](?:[A-Za-z.\s/·]|\^-?\d)*)$")


def unit_of(text: str) -> Unit | None:
    """The unit after the last number; None without a unit, or with a word that is no unit."""
    text = text.strip(" .")
    unit = {name: 1 for name, sign in _MONEY.items() if sign.search(text)}
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    tail = _TAIL.search(text.strip(" .{}"))
    if tail is None:
        return unit or None
    if not tail["space"] and re.match("[A-Za-z](?![A-Za-z])", tail["unit"]):  # 5m may be a product
        return unit or None
    after = _read(re.findall(r"[A-Za-z]+|/|\^-?\d", tail["unit"]))
    if after is None:
        return None
    return unit | after or None


def different_units(one: str, other: str) -> bool:
    """Whether both texts have a unit, and the units differ. A degree may be any degree, and $5 may be $5 per hour."""
    ours, theirs = unit_of(one), unit_of(other)
    if not ours or not theirs:
        return False
    pound = (*({"lb", "£"} & {*ours, *theirs}), "pound")[0]  # the word means either
    ours, theirs = ({pound if name == "pound" else name: unit[name] for name in unit} for unit in (ours, theirs))
    if ours == theirs:
        return False
    if any(unit == {"degree": 1} for unit in (ours, theirs)):
        return not {"C", "F"} & {*ours, *theirs}
    return not (_MONEY.keys() & ours.keys() & theirs.keys() and 1 in (len(ours), len(theirs)))


def _read(tokens: list[str]) -> Unit | None:
    unit: Unit = {}
    sign, power, last = 1, 1, ""
    for token in tokens:
        lower = token.lower()
        if token in ("/", "a") or lower in ("per", "an"):
            sign = -1
        elif lower in _POWERS:
            power = _POWERS[lower]
        elif token.startswith("^") or lower in _RAISED:
            if last:
                unit[last] = unit[last] * (int(token[1:]) if token.startswith("^") else _RAISED[lower])
        elif token in _SPEEDS:
            unit |= _SPEEDS[token]
        else:
            last = _SYMBOLS.get(token) or _WORDS.get(lower) or _WORDS.get(lower.removesuffix("s"), "")
            if not last:
                return None
            unit[last] = unit.get(last, 0) + sign * power
            power = 1
    return unit
