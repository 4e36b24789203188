"""Bytes of book files to text: as the file declares, else as it most likely is, and then with a warning."""

from __future__ import annotations

import codecs
import re

import chardet
import regex

from moss_tts.books.remarks import Remarks

# The guess looks at no more than this of a file, and of all files of a book: it takes 7 seconds for 1 MiB.
SAMPLE_BYTES = 1 << 18
MAX_SAMPLES = 1 << 19
# Bytes of a document in which browsers look for <meta charset>.
_HEAD_BYTES = 4096
# A guess less sure than this is no better than the most common encoding of old files.
MIN_CONFIDENCE = 0.05
COMMON = "cp1252"
# The share of characters that may be broken in a file that is in the encoding it declares.
MAX_STRAY = 0.01

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_XML_DECLARATION = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]{1,100})""")
_META = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([\w.:-]{1,100})""", re.IGNORECASE)
# The names that files use for a smaller set of characters than they have (encoding.spec.whatwg.org).
_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_WORD = regex.compile(r"\p{L}+")
# Chinese and other scripts without spaces stand beside Latin words as they are.
_MIXED = regex.compile(r"(?=\P{Latin}*\p{Latin}).*[\p{Cyrillic}\p{Greek}\p{Arabic}\p{Hebrew}]")
# Text that looks like ASCII but is not.
_SEVEN_BITS = re.compile(r"iso2022|hz$")
# Codecs of Python that no file is written in; some take very long.
_NO_FILES = re.compile(r"idna|punycode|.*unicode.escape|undefined|utf-7|mbcs|oem")


class Guesser:
    """Guesses the encodings of the files of one book; files that it has no time to look at are like the last one."""

    def __init__(self) -> None:
        self._left, self._last = MAX_SAMPLES, COMMON

    def guess(self, content: bytes) -> str:
        """The encoding that bytes are most likely in."""
        sample = content[:SAMPLE_BYTES]
        if len(sample) <= self._left:
            self._left -= len(sample)
            found = chardet.detect(sample)
            encoding = _known(found["encoding"] or "")
            if encoding is None or found["confidence"] < MIN_CONFIDENCE:
                encoding = COMMON
            self._last = COMMON if _mixes_alphabets(sample.decode(encoding, "replace")) else encoding
        return self._last


def _mixes_alphabets(text: str) -> bool:
    """Whether words have Latin and other letters at once, as those with accents have in a wrong encoding."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    return 2 * sum(_MIXED.match(word) is not None for word in words) > len(words)


def decode_document(content: bytes, where: str, remarks: Remarks, guesser: Guesser) -> str:
    """The text of an XML or HTML document: by its byte order mark, its declaration, <meta charset>, or UTF-8."""
    declared = _XML_DECLARATION.match(content) or _META.search(content[:_HEAD_BYTES])
    name = declared[1].decode("ascii") if declared else "utf-8"
    return _decoded(content, name, where, remarks, guesser)


def decode_plain(content: bytes, where: str, remarks: Remarks) -> str:
    """The text of a file that declares nothing: by its byte order mark, or UTF-8, else guessed and said."""
    return _decoded(content, "utf-8", where, remarks, Guesser())


def _decoded(content: bytes, declared: str, where: str, remarks: Remarks, guesser: Guesser) -> str:
    marked = next((encoding for bom, encoding in _BOMS if content.startswith(bom)), None)
    encoding = marked or _without_zeros(content) or _known(declared)
    if encoding is None:
        remarks.warn(where, f"declares the encoding {declared!r}, which is unknown; the encoding was guessed")
        return _guessed(content, where, remarks, guesser)
    if marked is None and not _SEVEN_BITS.match(encoding) and (text := _strict(content, "utf-8")) is not None:
        if encoding != "utf-8" and not content.isascii():
            remarks.warn(where, f"declares the encoding {declared}, but is in UTF-8; read as UTF-8")
        return text
    text = _strict(content, encoding)
    if text is None and not encoding.startswith("utf-8"):
        text = _mostly(content, encoding, where, remarks)
    return _guessed(content, where, remarks, guesser) if text is None else text


def _known(name: str) -> str | None:
    """Python's name of an encoding; None for what is none of a text file."""
    try:
        found = codecs.lookup(name).name
        b"".decode(found)
    except (LookupError, ValueError):
        return None
    return None if _NO_FILES.match(found) else _WIDER.get(found, found)


def _mostly(content: bytes, encoding: str, where: str, remarks: Remarks) -> str | None:
    """The text of bytes that are in an encoding but for a few; None where they are not."""
    text = content.decode(encoding, "replace")
    stray = text.count("\ufffd")
    if stray > MAX_STRAY * len(text) + 1:
        return None
    remarks.warn(where, f"has bytes that are not {encoding}, {stray} of them; they were left out")
    return text.replace("\ufffd", "")


def _without_zeros(content: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of the beginning is zero."""
    begin = content[:64]
    if len(begin) < 4 or len(begin) % 2:
        return None
    if not any(begin[0::2]) and all(begin[1::2]):
        return "utf-16-be"
    return "utf-16-le" if all(begin[0::2]) and not any(begin[1::2]) else None


def _strict(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeError:
        return None


def _guessed(content: bytes, where: str, remarks: Remarks, guesser: Guesser) -> str:
    """The text of bytes that are not in the encoding they should be in."""
    escaped = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    stray = sum("\udc80" <= character <= "\udcff" for character in escaped)
    whole = sum(not character.isascii() for character in escaped) - stray
    if stray <= whole:
        remarks.warn(where, f"is UTF-8 with stray bytes, {stray} of them; each was read as {COMMON}")
        return re.sub("[\udc80-\udcff]", lambda match: _common(bytes([ord(match[0]) - 0xDC00])), escaped)
    encoding = guesser.guess(content)
    remarks.warn(where, f"is not in UTF-8 or the encoding it declares; read as {encoding}, which is a guess")
    return _common(content) if encoding == COMMON else content.decode(encoding, "replace")


def _common(content: bytes) -> str:
    return content.decode(COMMON, "replace")
