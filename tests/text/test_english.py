"""Written English as a person reads it out: every kind of number, date, sum, name and sign; prose stays as it is."""

from __future__ import annotations

import pytest

from moss_tts.text.english.reading import in_words
from moss_tts.text.pieces import TIE


def read(text: str) -> str:
    return in_words(text).replace(TIE, " ")


@pytest.mark.parametrize(
    "text",
    [
        "It was a bright cold day, and nobody came.",
        "I'll say it again: don't you dare!",
        "She said that the well-known mother-in-law was fine.",
        "No. I won't. He may not come in March, may he?",
        "I am. You and I. So did Mary, I think.",
        "He found it, and the art was fig green to the max.",
        "He saw us. It is us, or it is not.",
        "A rose is a rose.",
        "Where have you been?",
        "O'Brien's dog ate the record.",
        "What a mix of civil and livid people!",
    ],
)
def test_ordinary_prose_is_not_changed(text: str) -> None:
    assert in_words(text) == text


def check(text: str, wanted: str) -> None:
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5 apples", "five apples"),
        ("1,234,567 people", "one million two hundred and thirty-four thousand five hundred and sixty-seven people"),
        ("3.14 and 0.5", "three point one four and zero point five"),
        (".5 of it", "point five of it"),
        ("It fell to -7.", "It fell to minus seven."),
        ("pages 10-12", "pages ten to twelve"),
        ("3–5 apples", "three to five apples"),
        ("They won 3-2.", "They won three to two."),
        ("10:1 odds", "ten to one odds"),
        ("007", "zero zero seven"),
        ("12345678", "one two three four five six seven eight"),
        ("10000000", "ten million"),
        ("COVID-19 and B12", "Covid nineteen and bee twelve"),
        ("a 4K film", "a four thousand film"),
        ("2x as fast", "two times as fast"),
        ("2.5m people", "two point five million people"),
        ("10k runners", "ten thousand runners"),
        ("~20 of us", "about twenty of us"),
    ],
)
def test_cardinals(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1st, 2nd, 3rd", "first, second, third"),
        ("the 22nd of them", "the twenty-second of them"),
        ("the 101st", "the one hundred and first"),
        ("the 1,000th", "the one thousandth"),
        ("a 2nd-grade class", "a second-grade class"),
        ("1/2 and 3/4", "one half and three quarters"),
        ("1/2 cup of milk", "half a cup of milk"),
        ("1/2 of it", "half of it"),
        ("1 1/2 cups", "one and a half cups"),
        ("2/3 of it", "two thirds of it"),
        ("24/7", "twenty-four seven"),
    ],
)
def test_ordinals_and_fractions(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("in 1984", "in nineteen eighty-four"),
        ("in 2005", "in two thousand and five"),
        ("in 1905", "in nineteen oh five"),
        ("since 2024.", "since twenty twenty-four."),
        ("1914-1918", "nineteen fourteen to nineteen eighteen"),
        ("1939–45,", "nineteen thirty-nine to forty-five,"),
        ("mid-1984", "mid-nineteen eighty-four"),
        ("the 1990s", "the nineteen nineties"),
        ("the 1800s", "the eighteen hundreds"),
        ("the '80s", "the eighties"),
        ("in her 30s", "in her thirties"),
        ("1500 people", "one thousand five hundred people"),
        ("In 1500 people came.", "In fifteen hundred people came."),
        ("44 BC", "forty-four bee see"),
    ],
)
def test_years(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("March 3, 1847", "March third, eighteen forty-seven"),
        ("March 3rd", "March third"),
        ("3 March 1847", "the third of March, eighteen forty-seven"),
        ("the 4th of July", "the fourth of July"),
        ("on 1st May", "on the first of May"),
        ("2024-05-17", "May seventeenth, twenty twenty-four"),
        ("12/25/2023", "December twenty-fifth, twenty twenty-three"),
        ("25/12/2023", "December twenty-fifth, twenty twenty-three"),
        ("31.12.1999", "December thirty-first, nineteen ninety-nine"),
        ("Jan. 5", "January fifth"),
        ("5 Jan 2020", "the fifth of January, twenty twenty"),
        ("July 4-6", "July fourth to sixth"),
        ("Mon, 3 May", "Monday, the third of May"),
        ("Mon–Fri 9am", "Monday to Friday nine ay em"),
        ("Sat. 10-4", "Saturday ten to four"),
        ("March 1984", "March nineteen eighty-four"),
        ("45/13/2023 is no date", "forty-five slash thirteen slash two thousand and twenty-three is no date"),
    ],
)
def test_dates(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("at 3:30 pm", "at three thirty pee em"),
        ("at 14:05", "at fourteen oh five"),
        ("at 9 o'clock", "at nine o'clock"),
        ("at 9:00", "at nine o'clock"),
        ("at 10am", "at ten ay em"),
        ("at 9:00 AM", "at nine ay em"),
        ("at 3.30pm", "at three thirty pee em"),
        ("10-11am", "ten to eleven ay em"),
        ("9:00-17:00", "nine o'clock to seventeen hundred"),
        ("at 10 a.m. The bus", "at ten ay em. The bus"),
        ("at 10 a.m. on Monday", "at ten ay em on Monday"),
        ("at 10:30 a.m.", "at ten thirty ay em."),
    ],
)
def test_times(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$5", "five dollars"),
        ("$1", "one dollar"),
        ("$3.50", "three dollars and fifty cents"),
        ("$0.99", "ninety-nine cents"),
        ("£20", "twenty pounds"),
        ("£1.01", "one pound and one penny"),
        ("€1.2 million", "one point two million euros"),
        ("$1.5bn", "one point five billion dollars"),
        ("5 €", "five euros"),
        ("99¢", "ninety-nine cents"),
        ("$5-10", "five to ten dollars"),
        ("a $5 bill", "a five dollar bill"),
        ("US$1,000", "one thousand dollars"),
        ("-$5", "minus five dollars"),
        ("$5/month", "five dollars per month"),
        ("50 EUR", "fifty euros"),
        ("50%", "fifty percent"),
        ("5-10% off", "five to ten percent off"),
        ("-3.5%", "minus three point five percent"),
    ],
)
def test_money_and_percent(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5 kg", "five kilograms"),
        ("1 kg", "one kilogram"),
        ("10 km/h", "ten kilometers per hour"),
        ("72°F", "seventy-two degrees Fahrenheit"),
        ("-5 °C", "minus five degrees Celsius"),
        ("6ft", "six feet"),
        ("3 GB", "three gigabytes"),
        ("50 m²", "fifty square meters"),
        ("3m x 4m", "three meters by four meters"),
        ("5'11\"", "five feet eleven"),
        ("20°", "twenty degrees"),
        ("a 5-km run", "a five kilometer run"),
        ("a 10-year-old", "a ten-year-old"),
        ("25 min", "twenty-five minutes"),
        ("4-5 kg", "four to five kilograms"),
        ("2 tbsp. sugar", "two tablespoons sugar"),
        ("24 hrs/day", "twenty-four hours per day"),
    ],
)
def test_units(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("call 555-0134", "call five five five, zero one three four"),
        ("(555) 123-4567", "five five five, one two three, four five six seven"),
        ("+1 555 123 4567", "plus one, five five five, one two three, four five six seven"),
        ("1-800-555-0199", "one, eight zero zero, five five five, zero one nine nine"),
        ("v2.0.1", "version two point zero point one"),
        ("version 3.11", "version three point eleven"),
        ("2 + 2 = 4", "two plus two equals four"),
        ("5 - 3 = 2", "five minus three equals two"),
        ("5 * 3", "five times three"),
        ("±3", "plus or minus three"),
        ("#5", "number five"),
        ("No. 5", "Number five"),
        ("pp. 5-7", "pages five to seven"),
        ("vol. 2", "volume two"),
        ("§ 5", "section five"),
    ],
)
def test_labels_and_sums(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Henry VIII", "Henry the eighth"),
        ("Queen Elizabeth II's", "Queen Elizabeth the second's"),
        ("King Charles I and", "King Charles the first and"),
        ("Elizabeth I was", "Elizabeth the first was"),
        ("So did Mary I think", "So did Mary I think"),
        ("Pope John Paul II", "Pope John Paul the second"),
        ("Chapter IV", "Chapter four"),
        ("World War I", "World War one"),
        ("WWII", "World War two"),
        ("Act III, Scene ii", "Act three, Scene two"),
        ("Rocky II", "Rocky two"),
        ("the XIX century", "the nineteenth century"),
        ("IV", "four"),
    ],
)
def test_roman_numerals(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Dr. Smith met Mrs. Jones", "Doctor Smith met Misses Jones"),
        ("Mr Brown", "Mister Brown"),
        ("Mr. & Mrs. Jones", "Mister and Misses Jones"),
        ("Prof. Lee", "Professor Lee"),
        ("Gen. Lee", "General Lee"),
        ("St. John's Road", "Saint John's Road"),
        ("5 Main St. and", "five Main Street and"),
        ("on Main St.", "on Main Street."),
        ("John Smith Jr. said", "John Smith Junior said"),
        ("Mt. Everest", "Mount Everest"),
        ("J. R. R. Tolkien", "jay are are Tolkien"),
        ("John F. Kennedy", "John eff Kennedy"),
        ("plan B. Then he left", "plan bee. Then he left"),
        ("cats vs. dogs", "cats versus dogs"),
        ("e.g. tea, i.e. a drink", "for example, tea, that is, a drink"),
        ("pens, etc. We left", "pens, et cetera. We left"),
        ("pens, etc. and", "pens, et cetera and"),
        ("the U.S. army", "the you ess army"),
        ("in the U.S. He left", "in the you ess. He left"),
    ],
)
def test_titles_initials_and_abbreviations(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("the FBI and the BBC", "the eff bee eye and the bee bee see"),
        ("NASA and UNESCO", "nasa and Unesco"),
        ("HTML", "aitch tee em el"),
        ("DVDs", "dee vee dees"),
        ("the UK's plan", "the you kay's plan"),
        ("it is NOT good", "it is not good"),
        ("THIS IS VERY IMPORTANT.", "This is very important."),
        ("BRIDGE CLOSED AFTER STORM", "Bridge closed after storm"),
        ("please DO NOT TOUCH it", "please do not touch it"),
        ("I'M HERE", "I'm here"),
        ("IT IS ME AND I AM ON TV", "It is me and I am on tee vee"),
        ("the IT department", "the eye tee department"),
        ("OK", "okay"),
        ("iPhone", "iPhone"),
    ],
)
def test_capitals(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("john.smith@example.com", "john dot smith at example dot com"),
        ("https://example.org/a-b/", "example dot org slash a dash bee"),
        ("visit example.com.", "visit example dot com."),
        ("notes.txt", "notes dot txt"),
        ("bread & butter", "bread and butter"),
        ("he/she and/or it", "he or she and or it"),
        ("@anna #love", "at anna hashtag love"),
        ("rock 'n' roll", "rock and roll"),
        ("tea w/o milk", "tea without milk"),
        ("C++", "see plus plus"),
        ("N/A", "en ay"),
    ],
)
def test_addresses_and_signs(text: str, wanted: str) -> None:
    check(text, wanted)


@pytest.mark.parametrize(
    ("text", "tied"),
    [
        ("It was on March 3, 1847.", "March third, eighteen forty-seven"),
        ("It was 1,234 in all.", "one thousand two hundred and thirty-four"),
        ("At 9:30 am we left.", "nine thirty ay em"),
        ("The FBI came.", "eff bee eye"),
    ],
)
def test_words_of_one_number_are_tied(text: str, tied: str) -> None:
    assert tied.replace(" ", TIE) in in_words(text)
