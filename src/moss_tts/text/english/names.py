"""Titles, abbreviations, initials, acronyms, words in capitals, and Roman numerals behind names."""

from __future__ import annotations

import re

from moss_tts.text.english.letters import spelt
from moss_tts.text.english.numerals import cardinal, ordinal, roman
from moss_tts.text.english.rules import Rule, begins_sentence, rule, stop_behind

# Written with or without a dot, before a name.
_TITLES = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Misses", "Ms": "Miss", "Messrs": "Misters", "Prof": "Professor",
    "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Maj": "Major", "Cmdr": "Commander",
}  # fmt: skip
# These are other words without the dot.
_DOTTED_TITLES = {
    "Rev": "Reverend", "Hon": "Honourable", "Gen": "General", "Col": "Colonel", "Gov": "Governor", "Sen": "Senator",
    "Rep": "Representative", "Pres": "President", "Mt": "Mount", "Ft": "Fort", "Fr": "Father", "Sr": "Sister",
}  # fmt: skip
# After a name, or anywhere.
_SHORT_FORMS = {
    "Jr": "Junior", "Sr": "Senior", "Esq": "Esquire", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road",
    "Inc": "Incorporated", "Ltd": "Limited", "Corp": "Corporation", "Co": "Company", "Bros": "Brothers",
    "Dept": "Department", "Univ": "University", "Govt": "Government",
    "etc": "et cetera", "vs": "versus", "approx": "approximately", "est": "established", "incl": "including",
    "esp": "especially", "dept": "department", "govt": "government", "tel": "telephone", "Tel": "Telephone",
    "misc": "miscellaneous", "cf": "compare", "al": "others", "ca": "about",
    "ed": "edition", "eds": "editors",
}  # fmt: skip
_BEFORE_NUMBERS = {
    "No": "Number", "no": "number", "Nos": "Numbers", "nos": "numbers", "Nr": "Number", "p": "page", "pp": "pages",
    "Vol": "Volume", "vol": "volume", "Ch": "Chapter", "ch": "chapter", "Fig": "Figure", "fig": "figure",
    "Figs": "Figures", "figs": "figures", "Sec": "Section", "sec": "section", "Art": "Article", "art": "article",
    "Eq": "Equation", "eq": "equation", "Apt": "Apartment", "apt": "apartment", "Rm": "Room", "op": "opus",
    "Op": "Opus", "ext": "extension", "Ext": "Extension",
}  # fmt: skip
_CAPITAL = r"(?=[A-Z]|& [A-Z]|and Mrs)"


def _any_of(words: dict[str, str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def _short_form(match: re.Match[str]) -> str:
    return _SHORT_FORMS[match[1]] + stop_behind(match)


ABBREVIATIONS: tuple[Rule, ...] = (
    rule(r"(?i)\be\. ?g\.,?|\beg\.,?", "for example,"),
    rule(r"(?i)\bi\. ?e\.,?|\bie\.,?", "that is,"),
    rule(r"(?i)\ba\.k\.a\.|\baka\b", "also known as"),
    rule(r"(?i)\bet al\b\.?", lambda m: "and others" + stop_behind(m)),
    rule(r"(?i)\bp\. ?s\.[:,]?", f"{spelt('ps')},"),
    rule(r"\b(?:OK|O\.K\.|ok)(?!\w)", "okay"),
    rule(r"(?<= )'n'?(?= )", "and"),
    rule(r"\bvs\b(?!\.)", "versus"),
    rule(r"\b([A-Z])/([A-Z])\b", lambda m: spelt(m[1] + m[2])),
    rule(r"\bw/o\b", "without"),
    rule(r"\bc/o\b", "care of"),
    rule(r"\bw/ ?(?=\w)", "with "),
    rule(rf"\b({_any_of(_TITLES)})\b\.? ?{_CAPITAL}", lambda m: f"{_TITLES[m[1]]} "),
    rule(rf"\b({_any_of(_DOTTED_TITLES)})\. {_CAPITAL}(?<![A-Z]\w Sr\. )", lambda m: f"{_DOTTED_TITLES[m[1]]} "),
    # After a name it is a street, before a name a saint.
    rule(
        r"(?<=[a-z] )St\b\.?(?=\s*(?:\Z|[,;:!?)]|\s(?:[a-z]|(?:The|He|She|It|They|We|I|At|In|On|But|And)\b)))",
        lambda m: "Street" + stop_behind(m),
    ),
    rule(rf"\bSt\b\.? ?{_CAPITAL}", "Saint "),
    rule(r"(?<=[a-z] )St\b\.?", lambda m: "Street" + stop_behind(m)),
    rule(rf"\b({_any_of(_BEFORE_NUMBERS)})\.? ?(?=#?\d)".replace(r"\.?", r"\."), lambda m: f"{_BEFORE_NUMBERS[m[1]]} "),
    rule(r"\b(No|Nos) (?=\d)", lambda m: f"{_BEFORE_NUMBERS[m[1]]} "),
    rule(r"(?:№|n°|N°|nº|Nº) ?(?=\d)", "number "),
    rule(rf"\b({_any_of(_SHORT_FORMS)})\.", _short_form),
    rule(r"(?<=[a-z])(,? )(Jr|Sr)\b", lambda m: m[1] + _SHORT_FORMS[m[2]]),
)

# Things with numbers, not rulers.
_NUMBERED = (
    "Chapter Part Book Act Scene Volume Section Phase Type Article Level Class Stage Figure Table Appendix War Canto "
    "Title Bowl Step Unit Lesson Episode Season Round Grade Category Mark Apollo Gemini Saturn Division Group"
)
_REIGNING = (
    "Henry Charles Elizabeth George William Louis Edward Richard James Philip Peter Catherine Alexander Nicholas "
    "Frederick Ivan Mary Napoleon John Paul Pius Benedict Leo Gregory Clement Innocent Urban Francis Ferdinand Alfonso "
    "Carlos Juan Felipe Philippe Wilhelm Otto Leopold Albert Victor Umberto Christian Gustav Haakon Harald Olav Oscar "
    "Ramses Ramesses Ptolemy Darius Xerxes Cleopatra Constantine Theodosius Justinian Mehmed Selim Murad Suleiman "
    "Mohammed Abdullah Hussein Hassan Boniface Celestine Sixtus Julius Robert David Stephen Matilda Margaret "
    "Rama Pedro Manuel Sancho Casimir Sigismund Stanislaw Wenceslas Rudolf Maximilian Joseph Franz Karl"
)
_NUMERAL = r"([IVXLC]+)\b(?!\.\w)"
_REIGNS = rf"(?:{'|'.join(_REIGNING.split())})"
_MONARCH = r"(?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Prince|Princess|Sultan|Saint|Duke)"


def _reign(match: re.Match[str]) -> str:
    value = roman(match[2])
    return match[0] if value is None else f"{match[1]} the {ordinal(value)}"


def _numbered(match: re.Match[str]) -> str:
    value = roman(match[2].upper())
    return match[0] if value is None else f"{match[1]} {cardinal(str(value))}"


def _alone(match: re.Match[str]) -> str:
    value = roman(match[1])
    return match[0] if value is None else cardinal(str(value))


ROMANS: tuple[Rule, ...] = (
    rule(r"\bWW ?(?=I{1,2}\b)", "World War "),
    rule(rf"(?i:\b({'|'.join(_NUMBERED.split())})) ([IVXLC]+|[ivxlc]+)\b(?!')", _numbered),
    rule(r"\b([XVI]{2,}) ?(?:th|st|nd|rd)?(?= [Cc]entur)", lambda m: _century(m)),
    rule(rf"\b({_MONARCH} [A-Z]\w+) {_NUMERAL}", _reign),
    # The letters I, V and X alone are a number only where the name of a monarch ends.
    rule(
        rf"\b({_REIGNS}) ([IVX](?=[,.;:!?)]|\s*\Z|\s(?:of|the|and|was|had|to|in|is|by|as)\b)|[IVXLC]{{2,}})(?!\w)",
        _reign,
    ),
    rule(r"\b([A-Z][a-z]+) ([IVX]{2,})(?![\w'])", _numbered),
    rule(r"\A([IVXLC]+)(?=[.!?:]?\Z)", _alone),
)


def _century(match: re.Match[str]) -> str:
    value = roman(match[1])
    return match[0] if value is None else ordinal(value)


# ------------------------------------------------------------------------------------------ capitals

# Short words that are written in capitals for stress, and words that are read as words though made of initials.
_STRESSED = frozenset(
    """
    a i am an as at be by do go he if in is it me my no of oh ok on or so to up us we all and any are ask bad bed big
    but buy can day did end far few for get god got had has her him his hot how its job let lot man may men mom dad
    new non not now off old one our out own put ran red run sad say see set she sir sit six ten the tip too top try two
    use war was way who why win won yes yet you your
    aids pin ram rom sim gif zip nasa nato
    """.split()
)
# Read letter by letter although they could be words.
_SPELT = frozenset(
    """
    ad bc ce bce fbi cia nba nfl bbc us it uk eu un ai ui ip id ia ibm ucla aclu ira irs ioc iou usa usaf ufo ceo diy
    atm eta
    """.split()
)
_ONSET = r"(?:[bcdfghjklmnpqrstvwxyz]|[bcdfgkpst][hlr]|s[cklmnptw]|qu|tw|str|spr)?"
_CODA = r"(?:[bcdfghklmnprstvwxyz]|[lnrs][cdfgklmnpst]|[fkpc]t|ps|ks|ck|ts|sh|ch|th|ng|ll|ss|tt|ff)?"
_VOWEL = r"(?:[aeiou]|ai|au|ea|ee|ei|ie|io|ia|oa|oo|ou|ue|eu|iu|oi)"
_SYLLABLES = re.compile(rf"(?:{_ONSET}{_VOWEL}{_CODA})+[y]?|{_ONSET}y")
_CAPITALS = r"[A-Z][A-Z']*[A-Z]"


def _is_word(capitals: str) -> bool:
    """Whether a word in capitals is said as a word: a stressed one, or four letters and more that can be said."""
    word = capitals.replace("'", "").lower()
    if word in _SPELT:
        return False
    return word in _STRESSED or (len(word) >= 4 and _SYLLABLES.fullmatch(word) is not None)


def _initials(match: re.Match[str]) -> str:
    """ "J. R. R. Tolkien"; but "plan B. Then" ends a sentence."""
    if len(match[1].strip()) == 2 and begins_sentence(match.string, match.end()):
        return match[0]
    return spelt(match[1]) + " "


def _capitals(match: re.Match[str]) -> str:
    word = match[1]
    if word.endswith("'S") and len(word) > 3:
        return f"{_capital_word(word[:-2])}'s"
    return _capital_word(word)


def _capital_word(word: str) -> str:
    if word.lower() in _STRESSED - _SPELT:
        return word.lower()
    return word.capitalize() if _is_word(word) else spelt(word)


def _shouted(match: re.Match[str]) -> str:
    """Several words in capitals: a heading or a cry; all are words, those without a vowel and known initials aside."""
    if not any(_is_word(word) for word in re.findall(_CAPITALS, match[0])):
        return match[0]
    words = re.sub(r"[A-Z][A-Z']*", _shouted_word, match[0])
    return words[0].upper() + words[1:] if match.start() == 0 else words


def _shouted_word(match: re.Match[str]) -> str:
    word = match[0].lower()
    if word in ("i", "i'm", "i'll", "i've", "i'd"):
        return word.capitalize()
    is_initials = not re.search(r"[aeiouy]", word) or (word in _SPELT and word not in _STRESSED) or word == "usa"
    return spelt(match[0]) if is_initials and len(word) > 1 else word


CAPITALS: tuple[Rule, ...] = (
    rule(
        r"(?<![\w.])[A-Z][A-Z'-]*(?:[,:;]? [A-Z][A-Z'-]*)*(?:[,:;]? [A-Z][A-Z'-]+)(?![\w'])(?<=[A-Z]{3})|"
        r"(?<![\w.])(?=(?:[A-Z][\w'-]*[,:;]? ){2})[A-Z][A-Z'-]+(?:[,:;]? [A-Z][A-Z'-]*)+(?![\w'])",
        _shouted,
    ),
    # U.S.A., Ph.D., J. R. R. Tolkien, J.R.R. Tolkien
    rule(r"\bPh\. ?D\.?", lambda m: spelt("PhD") + stop_behind(m)),
    rule(r"\b(?:[A-Za-z]\.){2,}(?!\w)", lambda m: spelt(m[0]) + stop_behind(m)),
    rule(r"(?<![A-Z][ \u00a0])\b((?:[A-Z]\. ?)+)(?=[A-Z][a-z'])", _initials),
    rule(r"\b([A-Z]{2,})s\b", lambda m: f"{_capital_word(m[1])}s" if _is_word(m[1]) else f"{spelt(m[1])}s"),
    rule(rf"\b({_CAPITALS})\b", _capitals),
    # Plan B, the A train, X-ray; "I" and the article are words.
    rule(r"(?<!\w)(?<!\w')[b-hj-zB-HJ-Z](?!\w|'\w)", lambda m: spelt(m[0])),
    rule(r"(?<=[a-z] )A(?!\w|'\w)", lambda m: spelt(m[0])),
)
