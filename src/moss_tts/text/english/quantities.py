"""Money, percent, units, fractions, ordinals, versions, telephone numbers, ranges, sums, and numbers of their own."""

from __future__ import annotations

import re

from moss_tts.text.english.numerals import ALONE, NUMBER, cardinal, digits, integer, ordinal
from moss_tts.text.english.rules import Rule, rule
from moss_tts.text.pieces import tied

_TO = r"\s?[-–—]\s?"
_MINUS = r"(?:(?<![\w.,)])[-–](?=[\d.]))"
_SCALES = {
    "k": "thousand", "K": "thousand", "thousand": "thousand",
    "m": "million", "M": "million", "mn": "million", "mio": "million", "million": "million",
    "b": "billion", "B": "billion", "bn": "billion", "billion": "billion",
    "tn": "trillion", "T": "trillion", "trillion": "trillion",
}  # fmt: skip
# Sign or code -> one, several, one hundredth, several hundredths.
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("rouble", "roubles", "kopeck", "kopecks"),
    "CHF": ("franc", "francs", "centime", "centimes"),
}
_CURRENCIES |= {"USD": _CURRENCIES["$"], "GBP": _CURRENCIES["£"], "EUR": _CURRENCIES["€"], "JPY": _CURRENCIES["¥"]}
_SIGN = r"(?:US|A|C|NZ|HK)?([$£€¥₹₽]|\b(?:USD|EUR|GBP|JPY|CHF)\b\s?)"
_SCALE = rf"(?:[ -]?({'|'.join(sorted(_SCALES, key=len, reverse=True))})\b)?"


def _money(sign: str, amount: str, scale: str | None) -> str:
    one, several, hundredth, hundredths = _CURRENCIES[sign.strip()]
    if scale:
        return f"{cardinal(amount)} {_SCALES[scale]} {several}"
    whole, _, part = amount.replace(",", "").partition(".")
    if len(part) > 2:
        return f"{cardinal(amount)} {several}"
    cents = int(part.ljust(2, "0")) if part else 0
    dollars = f"{cardinal(whole)} {one if int(whole) == 1 else several}"
    coins = f"{integer(cents)} {hundredth if cents == 1 else hundredths}"
    if not cents:
        return dollars
    return coins if not int(whole) else tied(f"{dollars} and {coins}")


def _sign_first(match: re.Match[str]) -> str:
    minus, sign, amount, scale = match.groups()
    return ("minus " if minus else "") + _money(sign, amount, scale)


def _money_range(match: re.Match[str]) -> str:
    sign, low, high, scale = match.groups()
    return f"{cardinal(low)} to {_money(sign, high, scale)}"


def _adjective(match: re.Match[str]) -> str:
    """ "a $5 bill" -> "a five dollar bill"."""
    return f"{match[1]} {cardinal(match[3])} {_CURRENCIES[match[2].strip()][0]} {match[4]}"


MONEY: tuple[Rule, ...] = (
    rule(rf"\b([Aa]n?) {_SIGN}(\d+) ([a-z])", _adjective),
    rule(rf"{_SIGN}({NUMBER}){_TO}(?:[$£€¥₹₽])?({NUMBER}){_SCALE}", _money_range),
    rule(rf"({_MINUS.replace('(?=[', '(?=[A-Z$£€¥₹₽')})?{_SIGN}({NUMBER}){_SCALE}", _sign_first),
    rule(
        rf"{ALONE}({NUMBER}){_SCALE}\s?([$£€¥₹₽](?!\d)|\b(?:USD|EUR|GBP|JPY|CHF)\b)",
        lambda m: _money(m[3], m[1], m[2]),
    ),
    rule(rf"{ALONE}({NUMBER})\s?¢", lambda m: f"{cardinal(m[1])} {'cent' if m[1] == '1' else 'cents'}"),
    rule(rf"{ALONE}(\d+)p\b", lambda m: f"{cardinal(m[1])} {'penny' if m[1] == '1' else 'pence'}"),
    rule(r"\b(dollars?|pounds?|euros?|cents|pence)\s?/\s?(?=[a-z])", r"\1 per "),
)

# Symbol -> one, several.
_UNITS = {
    "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "mi": ("mile", "miles"), "yd": ("yard", "yards"), "ft": ("foot", "feet"),
    "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
    "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "tsp": ("teaspoon", "teaspoons"), "tbsp": ("tablespoon", "tablespoons"),
    "l": ("liter", "liters"), "L": ("liter", "liters"), "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"), "cl": ("centiliter", "centiliters"), "dl": ("deciliter", "deciliters"),
    "s": ("second", "seconds"), "sec": ("second", "seconds"), "secs": ("second", "seconds"),
    "min": ("minute", "minutes"), "mins": ("minute", "minutes"), "h": ("hour", "hours"), "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"), "ms": ("millisecond", "milliseconds"),
    "yr": ("year", "years"), "yrs": ("year", "years"),
    "kB": ("kilobyte", "kilobytes"), "KB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"),
    "MW": ("megawatt", "megawatts"), "GW": ("gigawatt", "gigawatts"), "kWh": ("kilowatt hour", "kilowatt hours"),
    "V": ("volt", "volts"), "dB": ("decibel", "decibels"), "kcal": ("kilocalorie", "kilocalories"),
    "cal": ("calorie", "calories"), "ha": ("hectare", "hectares"),
    "mph": ("mile per hour", "miles per hour"), "kph": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"), "rpm": ("turn per minute", "turns per minute"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
}  # fmt: skip
_UNIT = rf"({'|'.join(sorted((re.escape(unit) for unit in _UNITS), key=len, reverse=True))})(?![A-Za-z])"
_POWERS = {"²": "square ", "³": "cubic ", "": ""}


def _measured(match: re.Match[str]) -> str:
    """A number and its unit, with a power and what it is per: "10 km/h", "50 m²"."""
    minus, amount, link, unit, power, per = match.groups()
    several = amount != "1" and link != "-"
    words = f"{cardinal(amount)} {_POWERS[power or '']}{_UNITS[unit][several]}"
    return ("minus " if minus else "") + words + (f" per {_UNITS[per][0]}" if per else "")


def _feet_and_inches(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])} {'foot' if match[1] == '1' else 'feet'} {cardinal(match[2])}"


UNITS: tuple[Rule, ...] = (
    rule(rf"(?<=\d)( ?){_UNIT}\.(?= [a-z(])", r"\1\2"),
    rule(rf"({NUMBER}){_TO}(?={NUMBER}\s?(?:%|{_UNIT}))", lambda m: f"{cardinal(m[1])} to "),
    rule(rf"({_MINUS})?({NUMBER})\s?%", lambda m: f"{'minus ' if m[1] else ''}{cardinal(m[2])} percent"),
    rule(r"\b(\d)(?:'| ?ft\.? )(\d{1,2})(?:\"|''| ?in\b\.?)", _feet_and_inches),
    rule(rf"(?<=\d) ?{_UNIT} ?[x×] ?(?=\d)", lambda m: f" {m[1]} by "),
    rule(r"(?<=\d) ?[x×] ?(?=\d)", " by "),
    rule(
        rf"({NUMBER}) ?(m|bn|k|K|M)\b(?= (?:people|men|women|children|users|copies|views|votes|followers)\b)|"
        rf"{ALONE}({NUMBER})([kK])\b",
        lambda m: f"{cardinal(m[1] or m[3])} {_SCALES[m[2] or m[4]]}",
    ),
    rule(rf"({_MINUS})?(?<![\w.,])({NUMBER})([ -]?){_UNIT}([²³])?(?:/{_UNIT})?", _measured),
    rule(rf"{ALONE}({NUMBER})\s?sq\.? ?(ft|m|km|mi)\b\.?", lambda m: f"{cardinal(m[1])} square {_UNITS[m[2]][1]}"),
    rule(rf"{ALONE}({NUMBER})[x×](?!\w)", lambda m: f"{cardinal(m[1])} times"),
)

_DENOMINATORS = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100})


def _parts(numerator: int, denominator: int) -> str:
    if denominator == 2:
        return "one half" if numerator == 1 else f"{integer(numerator)} halves"
    name = "quarter" if denominator == 4 else ordinal(denominator)
    return f"a {name}" if numerator == 1 else f"{integer(numerator)} {name}s"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if not (0 < top < bottom and bottom in _DENOMINATORS):
        return f"{integer(int(whole)) + ' ' if whole else ''}{integer(top)} {integer(bottom)}"
    if not whole:
        return _parts(top, bottom)
    return f"{integer(int(whole))} and {'a half' if (top, bottom) == (1, 2) else _parts(top, bottom)}"


_HALVED = (
    "(?:cup|teaspoon|tablespoon|tsp|tbsp|mile|kilometer|meter|inch|pint|liter|pound|ounce|kilo|day|week|month|year|"
    "minute|second|dozen|million|billion|page|bottle|glass|loaf|bag|box|pack|onion|lemon|apple|dollar)"
)

FRACTIONS: tuple[Rule, ...] = (
    # "Half a cup", but "half of it"; "one half" if it stands alone.
    rule(rf"(?<![\w/.])1/2 (?={_HALVED}\b)", "half a "),
    rule(r"(?<![\w/.])1/2 (?=(?:of|the|an?)\b)", "half "),
    rule(r"(?<![\w/.])(?:(\d+) )?(\d{1,3})/(\d{1,3})(?![\w/])", _fraction),
)


def _telephone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    return ("plus " if match[0].startswith("+") else "") + ", ".join(digits(group) for group in groups)


def _is_round(run: str) -> bool:
    return run.endswith("000") and not run.startswith("0")


LABELS: tuple[Rule, ...] = (
    rule(r"(?<![\w.])\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\w)", _telephone),
    rule(r"(?<![\w.-])\(\d{3,4}\) ?\d{3,4}[ .-]?\d{3,4}(?!\w)", _telephone),
    rule(r"(?<![\w.-])(?:1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}(?!\w)", _telephone),
    rule(r"(?<![\w.-])\d{3}-\d{4}(?![\w-])(?<!00)", _telephone),
    rule(r"(?<![\w.-])0\d{2,4}(?: \d{3,4}(?: \d{3,4})?|[/-]\d{4,8})(?!\w)", _telephone),
    rule(r"(?<![\w.-])\d{4}([ -])\d{4}(?:\1\d{4})+(?!\w)", _telephone),
    rule(r"\bv(?:er)?\.? ?(?=\d+\.\d)", "version "),
    rule(r"(?<![\w.])\d+(?:\.\d+){2,}(?!\w)", lambda m: " point ".join(cardinal(part) for part in m[0].split("."))),
    rule(r"\b([Vv]ersion) (\d+)\.(\d+)(?![.\d])", lambda m: f"{m[1]} {cardinal(m[2])} point {cardinal(m[3])}"),
    rule(
        r"(?<![\d.,])(?:\d{7,}|0\d+)(?![\d,]|\.\d)",
        lambda m: cardinal(m[0]) if _is_round(m[0]) else digits(m[0]),
    ),
)

SUMS: tuple[Rule, ...] = (
    rule(rf"(?<=\d) ?[-–−] ?(?={NUMBER}(?: ?[-+*/×÷] ?{NUMBER})* ?=)", " minus "),
    rule(r"(?<=\d) ?[*×] ?(?=\d)", " times "),
    rule(r"(?<=\d) ?÷ ?(?=\d)", " divided by "),
    rule(r"(?<=\d) / (?=\d)", " divided by "),
    rule(r"(?<=[\w)]) ?\+ ?(?=\d)|(?<=\d) ?\+ ?(?=\w)|(?<=\w) \+ (?=\w)", " plus "),
    rule(r"(?<=[A-Za-z+])\+(?!\w)", " plus"),
    rule(r" ?= ?", " equals "),
    rule(r"\s?< ?(?=\d)", " less than "),
    rule(r"\s?> ?(?=\d)", " more than "),
    rule(r"±\s?(?=\d)", "plus or minus "),
    rule(r"[~≈]\s?(?=\d)", "about "),
)

NUMBERS: tuple[Rule, ...] = (
    rule(r"(?<=\d)/(?=\d)", " slash "),
    rule(rf"(?<![\w])({NUMBER})(st|nd|rd|th)\b", lambda m: ordinal(int(m[1].replace(",", "").partition(".")[0]))),
    rule(rf"(?<![\w.,])({NUMBER}){_TO}(?={NUMBER}(?!\w))", lambda m: f"{cardinal(m[1])} to "),
    rule(r"\b(\d+)(?=[:](\d+)\b)(:)", lambda m: f"{cardinal(m[1])} to "),
    rule(rf"{_MINUS}({NUMBER})", lambda m: f"minus {cardinal(m[1])}"),
    rule(r"(?<![\d\w])\.(\d+)", lambda m: f"point {digits(m[1])}"),
    # COVID-19, B12, 4K: a number that touches a word stands beside it.
    rule(rf"(?<=[A-Za-z])-?({NUMBER})(?=([A-Za-z])?)", lambda m: f" {cardinal(m[1])}{' ' if m[2] else ''}"),
    rule(rf"({NUMBER})(?=([A-Za-z])?)", lambda m: f"{cardinal(m[1])}{' ' if m[2] else ''}"),
)
