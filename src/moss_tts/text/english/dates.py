"""Dates, years, decades and times of day."""

from __future__ import annotations

import re

from moss_tts.text.english.letters import spelt
from moss_tts.text.english.numerals import ALONE, digits, integer, ordinal, plural, year
from moss_tts.text.english.rules import Rule, rule, stop_behind
from moss_tts.text.pieces import TIE, tied

MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTH = rf"({'|'.join(MONTHS)}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?(?![\d:%°]|[.,/]\d)"
_YEAR = r"(?:,? ((?:1\d|20)\d\d)\b(?![.,]?\d))?"
_TO = r"\s?[-–—]\s?"
_MERIDIEM = r"(?:\s?([ap])\.\s?m\.|\s?([ap])m\b\.?|\s?([AP])\.?M\b\.?)"


def _month(name: str) -> str:
    return next(month for month in MONTHS if month.startswith(name[:3]))


def _date(month: int, day: int, in_year: int) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return tied(f"{MONTHS[month - 1]} {ordinal(day)}, {year(in_year)}")


def _iso(match: re.Match[str]) -> str:
    return (_date(int(match[2]), int(match[3]), int(match[1])) or match[0]) + (" " if match[4] else "")


def _slashed(match: re.Match[str]) -> str:
    """12/25/2023: the month first, as in American English, unless only the other order is a date."""
    first, second, in_year = int(match[1]), int(match[2]), _century(match[3])
    return _date(first, second, in_year) or _date(second, first, in_year) or match[0]


def _dotted(match: re.Match[str]) -> str:
    """25.12.2023: the day first."""
    return _date(int(match[2]), int(match[1]), _century(match[3])) or match[0]


def _century(written: str) -> int:
    """A year of two digits is the one nearest to now: 23 -> 2023, 84 -> 1984."""
    value = int(written)
    return value if len(written) == 4 else value + (2000 if value < 50 else 1900)


def _month_first(match: re.Match[str]) -> str:
    name, first, last, in_year = match.groups()
    days = ordinal(int(first)) + (f" to {ordinal(int(last))}" if last else "")
    return tied(f"{_month(name)} {days}" + (f", {year(int(in_year))}" if in_year else ""))


def _day_first(match: re.Match[str]) -> str:
    first, last, name, in_year = match.groups()
    days = f"the {ordinal(int(first))}" + (f" to the {ordinal(int(last))}" if last else "")
    return tied(f"{days} of {_month(name)}" + (f", {year(int(in_year))}" if in_year else ""))


def _clock(match: re.Match[str]) -> str:
    """14:05 -> "fourteen oh five", 9:00 -> "nine o'clock", 9:00 am -> "nine a m"."""
    hour, minute, second = match[1], match[2], match[3]
    if int(hour) > 24 or int(minute) > 59:
        return match[0]
    meridiem = _letters_of(match, 4)
    words = f"{integer(int(hour))} {_minutes(minute, int(hour), bool(meridiem))}".strip()
    return tied(words + (f" {_two_digits(second)}" if second else "")) + meridiem


def _minutes(minute: str, hour: int, has_meridiem: bool) -> str:
    if minute != "00":
        return _two_digits(minute)
    if has_meridiem:
        return ""
    return "o'clock" if 1 <= hour <= 12 else "hundred"


def _two_digits(written: str) -> str:
    return f"oh{TIE}{digits(written[1])}" if written[0] == "0" else integer(int(written))


def _hour(match: re.Match[str]) -> str:
    return integer(int(match[1])) + _letters_of(match, 2)


def _letters_of(match: re.Match[str], first: int) -> str:
    """ " A M" or " P M" of the groups from `first` on, and the full stop that its last dot is."""
    half = next((letter for letter in match.groups()[first - 1 : first + 2] if letter), None)
    return f"{TIE}{spelt(half + 'm')}{stop_behind(match)}" if half else ""


def _decade(match: re.Match[str]) -> str:
    return plural(year(int(match[1])))


def _short_decade(match: re.Match[str]) -> str:
    return plural(integer(int(match[1])))


_WEEKDAY = r"(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)"


def _weekday(name: str) -> str:
    return next(day for day in _DAYS if day.startswith(name[:3]))


DATES: tuple[Rule, ...] = (
    rule(rf"\b{_WEEKDAY}\.? ?[-–] ?{_WEEKDAY}\b\.?(?!\w)", lambda m: f"{_weekday(m[1])} to {_weekday(m[2])}"),
    rule(rf"\b{_WEEKDAY}\b\.?(?=,? (?:\d|{_MONTH}))", lambda m: _weekday(m[1])),
    rule(r"(?<![\w-])(\d{4})-(\d\d)-(\d\d)(?![\d-])(T(?=\d))?", _iso),
    rule(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![\w/])", _slashed),
    rule(r"(?<![\w.])(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\w)", _dotted),
    rule(rf"\b{_MONTH} {_DAY}(?:{_TO}{_DAY})?{_YEAR}", _month_first),
    rule(rf"{ALONE}(?:[Tt]he )?{_DAY}(?:{_TO}{_DAY})?(?: of)? {_MONTH}{_YEAR}", _day_first),
    rule(rf"\b{_MONTH}(?= \d{{4}}\b)", lambda m: _month(m[1])),
    rule(r"\b(Jan|Feb|Aug|Sept?|Oct|Nov|Dec)\.", lambda m: _month(m[1]) + stop_behind(m)),
)

TIMES: tuple[Rule, ...] = (
    rule(rf"(?<=\d){_MERIDIEM}?{_TO}(?=\d{{1,2}}(?::\d\d)?{_MERIDIEM})", lambda m: f"{_letters_of(m, 1)} to "),
    rule(r"(?<=\d:\d\d)\s?[-–—]\s?(?=\d{1,2}:\d\d)", " to "),
    rule(rf"(?<![\d:.])(\d{{1,2}}):(\d\d)(?::(\d\d))?(?![\d:]){_MERIDIEM}?", _clock),
    rule(rf"(?<![\d:.,])(\d{{1,2}})\.([0-5]\d)()(?:{_MERIDIEM})", _clock),
    rule(rf"(?<![\d:.,])(\d{{1,2}}){_MERIDIEM}", _hour),
    rule(r"\b([ap])\.\s?m\.", lambda m: spelt(f"{m[1]}m") + stop_behind(m)),
    rule(r"(?<![\w'])((?:1\d|20)\d0)'?s\b", _decade),
    rule(r"(?<![\w'])'(\d0)s\b", _short_decade),
    rule(
        r"(?i:(?<=\bthe )|(?<=\bhis )|(?<=\bher )|(?<=\bmy )|(?<=\btheir )|(?<=\bearly )|(?<=\blate )|(?<=\bmid-))"
        r"([2-9]0)s\b",
        _short_decade,
    ),
    rule(r"(?<![\w'])'(\d\d)\b(?!')", lambda m: integer(int(m[1])) if m[1][0] != "0" else _two_digits(m[1])),
)

# Words between which and a number of four digits it counts things instead of naming a year.
_BEFORE_YEAR = r"(?i:in|since|until|till|by|from|of|before|after|around|year|and|to|for|late|early|mid)"
_COUNTED = r"(?: people| men| women| children| \w+(?<!s)s)\b(?<! was)(?<! is)(?<! has)(?<! as)(?<! this)(?<! its)"

YEARS: tuple[Rule, ...] = (
    rule(
        rf"{ALONE}(1[1-9]\d\d|20\d\d)(?: ?[-–] ?)(\d\d)(?!\d|[.,]\d)",
        lambda m: f"{year(int(m[1]))} to {_two_digits(m[2])}",
    ),
    rule(
        rf"{ALONE}(1[1-9]\d\d|20\d\d)(?: ?[-–] ?)(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)",
        lambda m: f"{year(int(m[1]))} to {year(int(m[2]))}",
    ),
    rule(rf"\b({_BEFORE_YEAR})([ -])(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)", lambda m: f"{m[1]}{m[2]}{year(int(m[3]))}"),
    rule(rf"{ALONE}(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)(?!{_COUNTED})", lambda m: year(int(m[1]))),
)
