"""Characters replaced by those of a keyboard, then reduced to a voice's alphabet; the others are returned."""

from __future__ import annotations

import re
import unicodedata

import regex
from anyascii import anyascii

from moss_tts.text.harmless import composed
from moss_tts.text.pieces import TIE

_TYPED = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´ʼʹʻ＇", "'"),
        **dict.fromkeys("“”„‟«»‹›″〝〞「」『』《》〈〉＂", '"'),
        **dict.fromkeys("‐‑⁃﹣－−", "-"),
        **dict.fromkeys("‒", "–"),
        **dict.fromkeys("―⸺⸻﹘─━", "—"),
        **dict.fromkeys("。｡．।", ". "),
        **dict.fromkeys("，、､،", ", "),
        **dict.fromkeys("；؛", "; "),
        **dict.fromkeys("→⇒➔➜←↔", ", "),
        "：": ": ",
        "！": "! ",
        "？": "? ",
        "؟": "? ",
        "¿": "",
        "¡": "",
        "…": "...",
        "⁇": "?",
        "‼": "!",
        "⁈": "?",
        "⁉": "?",
        "⁄": "/",
        "∕": "/",
        "•": ", ",
        "·": " ",
        "™": "",
        "®": "",
        "©": " copyright ",
        "º": "°",
    }
)
# Signs that the rules of numbers turn into words; a keyboard may lack them.
_MEANT = frozenset("–—²³°×÷±≈§¢£¥€₹₽")
# Pictures made of several characters stay together: a family, a flag, a thumb and its skin colour.
_PICTURE = regex.compile(r"(?=[\p{Extended_Pictographic}\p{Regional_Indicator}])(?=[^\x00-\x7f])\X")
_EMOTICON = re.compile(r"(?<!\S)(?:[:;]['-]?[)(DPpO/|]|<3|[xX]D|\^_?\^)(?!\S)")
_WORD = regex.compile(r"[\p{L}\p{M}]+")


def plain_characters(text: str) -> str:
    """The text with quotes, dashes, full-width forms, ligatures, fractions and digits as a keyboard has them."""
    typed = composed(text).translate(_TYPED)
    return "".join(character if character.isascii() else _plain(character) for character in typed)


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    if character in _MEANT or category[0] == "Z":
        return character if category[0] != "Z" else "\n\n" if category in ("Zl", "Zp") else " "
    if category[0] == "C":
        return ""
    plain = unicodedata.normalize("NFKC", character).replace("⁄", "/")
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if not plain.isascii():
        return character
    # A fraction stands apart from the whole number before it.
    return f" {plain}" if "/" in plain and category == "No" else plain


def without_pictures(text: str) -> tuple[str, list[str]]:
    """The text without emoji and emoticons, and these in order."""
    pictures: list[str] = []

    def leave_out(match: re.Match[str]) -> str:
        pictures.append(match[0])
        return " "

    return _EMOTICON.sub(leave_out, _PICTURE.sub(leave_out, text.translate(_NO_PICTURES))), pictures


# Symbols that Unicode counts among the pictures but that stand for words or punctuation.
_NO_PICTURES = {ord(character): replacement for character, replacement in {
    "‼": "!", "⁉": "?", "©": " copyright ", "®": "", "™": "", "↔": ", ", "〰": "—", "ℹ": "i", "Ⓜ": "M",
}.items()}  # fmt: skip


def in_latin_letters(text: str) -> tuple[str, list[str]]:
    """The text with every letter spelt in English ones, and the words of other scripts, as they were written."""
    foreign: list[str] = []

    def respell(match: re.Match[str]) -> str:
        word = match[0]
        if word.isascii():
            return word
        if all(letter.isascii() or _is_latin(letter) for letter in word):
            return anyascii(word)
        foreign.append(word)
        # Syllables of Chinese and Korean begin with capitals.
        return f" {re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', anyascii(word))} "

    return _WORD.sub(respell, text), foreign


def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "MODIFIER", "COMBINING"))


def in_alphabet(text: str, alphabet: frozenset[str]) -> tuple[str, list[str]]:
    """The text with a space for every character outside an alphabet, and these characters, marks on letters aside."""
    outside = [character for character in text if character not in alphabet and not character.isspace()]
    fitting = "".join(character if character in alphabet or character == TIE else _gap(character) for character in text)
    return fitting, [character for character in outside if unicodedata.category(character)[0] != "M"]


def _gap(character: str) -> str:
    return "" if unicodedata.category(character)[0] == "M" else " "
