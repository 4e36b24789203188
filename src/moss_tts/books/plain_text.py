"""Plain text to chapters: layout is undone, headings are told by their form, words are not touched."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import PurePath

from moss_tts.books.chapters import SCENE_BREAK, Book, Section, chapters_of
from moss_tts.books.gutenberg import without_boilerplate
from moss_tts.books.remarks import Remarks
from moss_tts.text.tags import SPEAKER_TAG, has_words

_ROMAN = r"(?=[ivxlcdm])m{0,4}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_SPELLED = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety first second third fourth fifth sixth
    seventh eighth ninth tenth eleventh twelfth last
    eins zwei drei vier fünf sechs sieben acht neun zehn erstes zweites drittes
    un deux trois quatre cinq premier première second seconde
    uno dos tres cuatro cinco primera primero due tre quattro cinque primo
""".split()
_DIVISIONS = """
    chapter chap[.]? ch[.] part book volume vol[.]? canto act scene stave letter episode section
    kapitel kap[.]? teil buch akt brief chapitre partie livre acte scène lettre capítulo capitulo cap[.]? parte libro
    capitolo atto lettera hoofdstuk deel kapittel rozdział kapitola fejezet глава часть книга κεφάλαιο bölüm
""".split()
_ALONE = """
    prologue epilogue preface foreword introduction afterword prolog epilog vorwort nachwort einleitung préface
    avant-propos prólogo epílogo prologo epilogo prefazione voorwoord пролог эпилог предисловие
    序 序章 序言 前言 楔子 引子 尾声 尾聲 后记 後記 まえがき あとがき プロローグ エピローグ
""".split()
_ORDINALS = """
    first second third fourth fifth sixth seventh eighth ninth tenth
    erste[rs]? zweite[rs]? dritte[rs]? vierte[rs]? fünfte[rs]? sechste[rs]? sieb(?:en)?te[rs]? achte[rs]? neunte[rs]?
    zehnte[rs]? elfte[rs]? zwölfte[rs]? eerste tweede derde vierde vijfde zesde
    première? deuxième second troisième quatrième cinquième sixième septième huitième neuvième dixième
    primer[oa]? segund[oa] tercer[oa]? cuart[oa] quint[oa] sext[oa] séptim[oa] octav[oa] noven[oa] décim[oa]
    prim[oa] second[oa] terz[oa] quart[oa] sest[oa] settim[oa] ottav[oa] non[oa] decim[oa]
    первая вторая третья четвёртая четвертая пятая шестая седьмая восьмая девятая десятая
""".split()
_NUMBER = rf"(?:the\s+)?(?:\d{{1,4}}|{_ROMAN}|(?:{'|'.join((*_SPELLED, *_ORDINALS))})(?:-\w+)?)"
# "Chapter 4", "Chapter 4: The Fall.", "Chapter 4 The Fall"; not "Chapter 4 was dull."
_NUMBERED = re.compile(
    rf"(?:{'|'.join(_DIVISIONS)})\s*(?:\s|(?<=\.)){_NUMBER}(?!\w)\s*(?:[.:)—–-].*|[^.:)—–-].*[^.!?,;]|)", re.IGNORECASE
)
# "Prologue", "Erstes Kapitel".
_UNNUMBERED = re.compile(
    rf"(?:{'|'.join(_ALONE)}|(?:{'|'.join(_ORDINALS)})\s+(?:{'|'.join(_DIVISIONS)}))[.:]?", re.IGNORECASE
)
_EAST_ASIAN = re.compile(
    r"제\s?\d{1,4}\s?[장화부편권](?:[\s:：].*|)|第[\d〇零一二三四五六七八九十百千两兩]+[章回节節卷部话話篇](?:[\s:：].*|[^。！？，]{0,20})"
)
_MAX_HEADING_LINES = 3
_MAX_HEADING_CHARS = 120
_MAX_EAST_ASIAN_HEADING = 40


def read_plain_text(text: str, name: str, remarks: Remarks) -> Book:
    """The book in a plain text; the file's name is its title if the text gives none."""
    body, header = without_boilerplate(text, remarks)
    pages = [_without_page_numbers(page, remarks) for page in body.split("\f")]
    blocks = [part for block in _raw_blocks("\n\n".join(pages)) for part in _paragraphs(block)]
    title = header.get("title", PurePath(name).stem)
    return Book(title, header.get("author"), header.get("language"), chapters_of(_sections_of(blocks), title))


# Blocks of lines

_BRACKETED = re.compile(r"\s*\[[^\[\]]{1,70}\]\s*")
_PAGE_NUMBER = re.compile(r"[-–—\[]?[ \t]*+(?:page[ \t]++)?\d{1,4}[ \t]*+[-–—\]]?", re.IGNORECASE)
_ENDS_SENTENCE = re.compile(r"""[.!?…:;。！？—–-]["'”’»)\]_*]*\Z""")


def _without_page_numbers(page: str, remarks: Remarks) -> str:
    """A page between form feeds, without the number that stands alone at its foot."""
    lines = page.rstrip().split("\n")
    if len(lines) > 2 and not lines[-2].strip() and _PAGE_NUMBER.fullmatch(lines[-1].strip()):
        remarks.leave_out("page number")
        return "\n".join(lines[:-1])
    return page


def _raw_blocks(text: str) -> list[list[str]]:
    """Lines between blank ones; headings like 第一章, scene breaks and marks such as [S1] need none around them."""
    spread = [""]
    for line in text.split("\n"):
        alone = line.strip() and (
            _is_east_asian_heading(line.strip()) or not has_words(line) or _BRACKETED.fullmatch(line)
        )
        if not _underlines(line, spread[-1]):
            spread.append(f"\n{line}\n" if alone else line)
    blocks = re.split(r"\n(?:[^\S\n]*\n)+", "\n".join(spread))
    return [lines for block in blocks if (lines := [line for line in block.split("\n") if line.strip()])]


def _underlines(line: str, before: str) -> bool:
    """Whether a line is no scene break but underlines the title before it."""
    marks, title = line.strip(), before.strip()
    return (
        len(marks) > 3 and set(marks) <= set("=-*~^_+#") and len(set(marks)) == 1 and abs(len(marks) - len(title)) < 2
    )


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """The paragraphs of a block: a heading may stand right above its text, and indents may begin paragraphs."""
    stripped = [line.strip() for line in lines]
    numbered = [_fits(_NUMBERED, line) is not None for line in stripped]
    is_named = len(lines) > _MAX_HEADING_LINES and numbered[0] and not any(numbered[1:])
    if is_named or (len(lines) > 1 and _fits(_LONE_NUMBER, stripped[0])):
        yield stripped[:1]
        lines, stripped = lines[1:], stripped[1:]
    margin = min(map(_indent, lines))
    begins = [at for at in range(1, len(lines)) if _indent(lines[at]) > margin]
    ended = sum(_ENDS_SENTENCE.search(stripped[at - 1]) is not None for at in begins)
    # Verse is indented too, but its lines do not end sentences.
    if not begins or len(begins) > len(lines) - 1 - (_indent(lines[0]) == margin) or ended < _MOST * len(begins):
        begins = []
    for start, end in zip([0, *begins], [*begins, len(lines)], strict=True):
        yield stripped[start:end]


_MOST = 0.8


def _fits(heading: re.Pattern[str], line: str) -> re.Match[str] | None:
    """The match of a whole line that is short enough to be a heading."""
    return heading.fullmatch(line) if len(line) <= _MAX_HEADING_CHARS else None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_east_asian_heading(line: str) -> bool:
    return len(line) <= _MAX_EAST_ASIAN_HEADING and _EAST_ASIAN.fullmatch(line) is not None


# Headings


def _sections_of(blocks: list[list[str]]) -> Iterator[Section]:
    title, paragraphs, has_body = "", list[str](), False
    numbered = _numbered_blocks(blocks)
    words = frozenset(word.casefold() for lines in blocks for line in lines for word in _WORD.findall(line))
    for at, lines in enumerate(blocks):
        if at in numbered or _is_heading(lines):
            yield Section(title, tuple(paragraphs), has_body)
            title, paragraphs, has_body = " ".join(_plain(" ".join(lines)).split()), [_plain("\n".join(lines))], False
        elif has_words("".join(lines)) or SPEAKER_TAG.search("".join(lines)):
            paragraphs.append(_plain(unwrap(lines, words)))
            has_body = True
        else:
            paragraphs.append(SCENE_BREAK)
    yield Section(title, tuple(paragraphs), has_body)


def _is_heading(lines: list[str]) -> bool:
    short = len(lines) <= _MAX_HEADING_LINES and sum(map(len, lines)) <= _MAX_HEADING_CHARS
    if not short:
        return False
    if _is_east_asian_heading(lines[0]) and len(lines) == 1:
        return True
    if len(lines) == 1 and _UNNUMBERED.fullmatch(lines[0]):
        return True
    return _NUMBERED.fullmatch(lines[0]) is not None


_COUNTED = """
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen \
eighteen nineteen twenty
eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf
un deux trois quatre cinq six sept huit neuf dix onze douze
uno dos tres cuatro cinco seis siete ocho nueve diez once doce
uno due tre quattro cinque sei sette otto nove dieci undici dodici
一 二 三 四 五 六 七 八 九 十
"""
_WORDS = {word: number for line in _COUNTED.splitlines() for number, word in enumerate(line.split(), start=1)}
# "IV", "4.", "- 4 -", "[4]", "§ 4", "Four"; with a title, "IV. The Fall" and "4. The Fall".
_LONE_NUMBER = re.compile(
    rf"[\[(~*=§—–-]*\s*(?:(?P<arabic>\d{{1,3}})|(?P<roman>{_ROMAN})|(?P<word>{'|'.join(_WORDS)}))\s*[.:)\]~*=—–-]*",
    re.IGNORECASE,
)
_TITLED_NUMBER = re.compile(
    rf"(?:(?P<arabic>\d{{1,3}})|(?P<roman>(?i:{_ROMAN}))|(?P<word>(?!)))\s*(?:[.:)—–-]+\s*|\s)(?=.*[^\W\d_])"
    r"(?:[^\W\d_a-z].{0,60}(?<![,;:.!])|[^a-zß-öø-ÿ]{2,60})"
)
_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}


@dataclass
class _Series:
    """Blocks that count up from 1 in one form; a series that begins again counts for the next part of the book."""

    found: list[int] = field(default_factory=list)
    chapters: list[int] = field(default_factory=list)
    last: int = 0

    def add(self, at: int, number: int) -> None:
        # One that is missing or misprinted does not end the count.
        if number == 1 or (self.last and self.last < number <= self.last + 2):
            if number == 1:
                self.end()
            self.found.append(at)
            self.last = number

    def end(self) -> None:
        """One number alone is no series; numbers with nothing between them are a list."""
        found = {*self.found}
        with_text = sum(at + 1 not in found for at in found)
        if len(self.found) > 1 and with_text > len(self.found) // 2:
            self.chapters += self.found
        self.found, self.last = [], 0


def _numbered_blocks(blocks: list[list[str]]) -> set[int]:
    """Which blocks are chapter numbers: they stand alone and count up from 1."""
    # Where chapters are called so, numbers with titles are lists.
    has_chapters = sum(map(_is_heading, blocks)) > 1
    patterns = [_LONE_NUMBER] if has_chapters else [_LONE_NUMBER, _TITLED_NUMBER]
    series = {(pattern, kind): _Series() for pattern in patterns for kind in _VALUES}
    for at, lines in enumerate(blocks):
        for (pattern, kind), numbers in series.items():
            match = _fits(pattern, lines[0]) if len(lines) == 1 else None
            if match is not None and match[kind]:
                numbers.add(at, _VALUES[kind](match[kind]))
    for numbers in series.values():
        numbers.end()
    return {at for numbers in series.values() for at in numbers.chapters if not _interrupts(blocks, at)}


def _roman(number: str) -> int:
    digits = [_DIGITS[letter] for letter in number.lower()]
    return sum(-digit if digit < max(digits[at:]) else digit for at, digit in enumerate(digits))


_VALUES: dict[str, Callable[[str], int]] = {
    "arabic": int,
    "roman": _roman,
    "word": lambda word: _WORDS[word.lower()],
}


def _interrupts(blocks: list[list[str]], at: int) -> bool:
    """Whether a number stands amid a sentence, as that of a page does."""
    before, after = blocks[at - 1][-1] if at else "", blocks[at + 1][0] if at + 1 < len(blocks) else ""
    return after[:1].islower() and bool(before) and not _ENDS_SENTENCE.search(before)


# Lines of a wrapped paragraph are about equally long; verse, lists and one paragraph a line are not.
_WRAP_COLUMNS = range(45, 111)
_EVEN = 0.6


def unwrap(lines: list[str], words: Set[str] = frozenset()) -> str:
    """The lines of one paragraph, as one line where they look wrapped at a column, else as they are.

    Args:
        lines: the lines.
        words: words of the book, in lower case: one of them that is divided at the end of a line is made whole.
    """
    widths = [_columns(line) for line in lines]
    is_wrapped = max(widths) in _WRAP_COLUMNS and min(widths[:-1], default=0) >= _EVEN * max(widths)
    return _join_lines(lines, words) if is_wrapped else "\n".join(lines)


def _columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def _join_lines(lines: list[str], words: Set[str]) -> str:
    joined = lines[0]
    for line in lines[1:]:
        if joined.endswith(SOFT_HYPHEN) or _is_divided(joined, line, words):
            joined = joined[:-1] + line
            continue
        wide = all(unicodedata.east_asian_width(side) in "WF" for side in (joined[-1], line[0]))
        tight = wide or (joined[-1] == "-" and joined[-2:-1].isalpha())
        joined += line if tight else f" {line}"
    return joined


def _is_divided(line: str, following: str, words: Set[str]) -> bool:
    """Whether a word is divided between two lines; "well-" and "known" are one only if "wellknown" is a word."""
    begins, ends = _DIVIDED.search(line), _WORD.match(following)
    return begins is not None and ends is not None and (begins[1] + ends[0]).casefold() in words


SOFT_HYPHEN = "\u00ad"
_WORD = re.compile(r"[^\W\d_]+")
_DIVIDED = re.compile(r"([^\W\d_]+)[-‐]\Z")

# Emphasis as in letters and in texts of Project Gutenberg; snake_case and file_name_ are words.
_EMPHASIS = re.compile(r"(?<!\w)_(?=[^\s_])([^_\n]*(?:\n[^_\n]*)?)(?<=[^\s_])_(?![^\W_])")


def _plain(text: str) -> str:
    return _EMPHASIS.sub(r"\1", text)
