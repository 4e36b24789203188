"""Numbers, dates, prices, times, letters and the like, as they are said: nothing here has a digit."""

import random

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
MONTHS = "January February March April May June July August September October November December".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VOWEL_NAMES = "AEFHILMNORSX"  # their names begin with a vowel: an F, but a U


def number_words(n: int) -> str:
    """0 <= n < 1 000 000 000 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" and {number_words(n % 100)}" if n % 100 else "")
    unit, name = (1_000_000, "million") if n >= 1_000_000 else (1000, "thousand")
    return f"{number_words(n // unit)} {name}" + (f" {number_words(n % unit)}" if n % unit else "")


def ordinal_words(n: int) -> str:
    head, dash, last = number_words(n).rpartition("-")
    if last in ORDINALS:
        return head + dash + ORDINALS[last]
    return head + dash + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def year_words(n: int) -> str:
    if 2000 <= n < 2010:
        return "two thousand" + (f" and {ONES[n % 10]}" if n % 10 else "")
    low = n % 100
    return f"{number_words(n // 100)} " + (
        "hundred" if low == 0 else f"oh {ONES[low]}" if low < 10 else number_words(low)
    )


def clock_words(rng: random.Random) -> str:
    hour = ONES[rng.randint(1, 12)]
    return rng.choice(
        [
            f"{hour} o'clock", f"half past {hour}", f"a quarter to {hour}", f"a quarter past {hour}", f"{hour} thirty",
            f"{hour} {number_words(rng.randint(10, 59))}", f"{number_words(rng.choice([5, 10, 20]))} past {hour}",
            f"{hour} in the morning", f"{hour} in the evening", f"{hour} fifteen",
        ]
    )  # fmt: skip


def price_words(rng: random.Random) -> str:
    dollars, cents = number_words(rng.randint(2, 250)), number_words(rng.randint(5, 95))
    coins = rng.choice(["pounds", "euros", "dollars"])
    return rng.choice(
        [f"{dollars} {coins}", f"{dollars} dollars and {cents} cents", f"{number_words(rng.randint(2, 99))} {coins}"]
    )


def date_words(rng: random.Random) -> str:
    """A day, often with its year: the third of March, nineteen ninety-two."""
    month, day, year = rng.choice(MONTHS), ordinal_words(rng.randint(1, 31)), year_words(rng.randint(1700, 2035))
    return rng.choice(
        [f"the {day} of {month}", f"{month} {day}", f"the {day} of {month}, {year}", f"{month} {day}, {year}",
         f"{rng.choice(['Monday', 'Tuesday', 'Friday', 'Sunday'])}, {month} {day}"]
    )  # fmt: skip


def money_words(rng: random.Random) -> str:
    """Small and large sums in several currencies."""
    small, cents = number_words(rng.randint(1, 999)), number_words(rng.randint(1, 99))
    large = number_words(rng.randint(2, 900))
    return rng.choice(
        [f"{small} dollars", f"{small} dollars and {cents} cents", f"{small} pounds {cents}", f"{cents} cents",
         f"{small} euros and {cents} cents", f"{large} million dollars", f"{large} thousand pounds",
         f"{decimal_words(rng)} billion euros", f"{small} yen", f"{small} dollars a month"]
    )  # fmt: skip


def time_words(rng: random.Random) -> str:
    """As a timetable says it: seven oh five A M."""
    hour, minute = ONES[rng.randint(1, 12)], rng.randint(0, 59)
    minutes = "" if minute == 0 else f" oh {ONES[minute]}" if minute < 10 else f" {number_words(minute)}"
    half = rng.choice([" A M", " P M", "", "", " in the morning", " in the afternoon"])
    return rng.choice([hour + minutes + half, hour + minutes + half, clock_words(rng)])


def phone_words(rng: random.Random) -> str:
    """Seven to ten digits, one by one, in groups."""
    digits = [ONES[rng.randint(0, 9)] if rng.random() > 0.1 else "oh" for _ in range(rng.choice([7, 10]))]
    groups = [digits[:3], digits[3:6], digits[6:]] if len(digits) == 10 else [digits[:3], digits[3:]]
    return ", ".join(" ".join(group) for group in groups)


def decimal_words(rng: random.Random) -> str:
    digits = " ".join(ONES[rng.randint(0, 9)] for _ in range(rng.choice([1, 1, 2])))
    return f"{number_words(rng.randint(0, 99))} point {digits}"


def acronym(rng: random.Random) -> str:
    """Two to four letters, written together or apart."""
    letters = rng.sample(LETTERS, rng.choice([2, 3, 3, 3, 4]))
    return " ".join(letters)


def a_letter(rng: random.Random) -> str:
    letter = rng.choice(LETTERS)
    return f"{'an' if letter in VOWEL_NAMES else 'a'} {letter}"


SPOKEN = {
    "number": lambda rng: number_words(
        int(rng.choice([rng.randint(2, 20), rng.randint(2, 99), rng.randint(100, 999)]))
    ),
    "big": lambda rng: number_words(
        rng.choice([rng.randint(1, 99) * 1000, rng.randint(1000, 99_999), rng.randint(1, 9) * 100])
    ),
    "count": lambda rng: number_words(rng.randint(1, 999) * rng.choice([1, 10, 1000, 1_000_000])),
    "year": lambda rng: year_words(rng.choice([rng.randint(1500, 1999), rng.randint(1900, 2030)])),
    "ordinal": lambda rng: ordinal_words(rng.randint(1, 31)),
    "percent": lambda rng: number_words(rng.randint(1, 99)),
    "clock": clock_words,
    "price": price_words,
    "date": date_words,
    "money": money_words,
    "time": time_words,
    "phone": phone_words,
    "decimal": decimal_words,
    "letter": lambda rng: rng.choice(LETTERS),
    "letters": lambda rng: ", ".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 7))),
    "acronym": acronym,
    "a_letter": a_letter,
}
