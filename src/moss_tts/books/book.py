"""Book files to chapters of plain text: .txt and .md here, .epub in epub.py.

Layout is undone (wrapped lines, Markdown), words are not touched: clean-up for speech is cleanup.py's.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from moss_tts.books.chapters import Book, Chapter, Section, chapters_of
from moss_tts.books.epub import read_epub
from moss_tts.errors import RequestError

__all__ = ["Book", "Chapter", "read_book"]

# Hundred times a long novel; more is no book.
MAX_TEXT_BYTES = 64 << 20


def read_book(path: str | Path) -> Book:
    """Read a .txt, .md or .epub file.

    Raises:
        RequestError: no such file, another kind of file, or one that is broken, encrypted or without text.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RequestError(f"cannot read {path.name} as a book; allowed: {', '.join(_READERS)}")
    if not path.is_file():
        raise RequestError(f"no such book: {path}")
    book = reader(path)
    if not book.chapters:
        raise RequestError(f"{path.name} has no text in it")
    return book


def decode_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 where a byte order mark says so. Nothing is guessed.

    Raises:
        RequestError: another encoding, or a file too large to be a book.
    """
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise RequestError(f"{path.name} has {path.stat().st_size} bytes; a book may have {MAX_TEXT_BYTES}")
    raw = path.read_bytes()
    is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path.name} is not {encoding.removesuffix('-sig').upper()}: {error.reason} at byte {error.start}; "
            f"save it as UTF-8, or convert it: iconv -f LATIN1 -t UTF-8"
        ) from error
    if "\0" in text:
        raise RequestError(f"{path.name} is no text: it has a NUL character")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Plain text

_ROMAN = r"(?=[ivxlcdm])m*(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_SPELLED = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty first second third
    eins zwei drei vier fünf sechs sieben acht neun zehn un deux trois quatre cinq premier première
    uno dos tres cuatro cinco primera primero due tre quattro cinque primo
""".split()
_DIVISIONS = """
    chapter part book volume canto act kapitel teil buch chapitre partie livre capítulo capitulo parte libro
    capitolo hoofdstuk deel kapittel rozdział kapitola fejezet глава часть книга κεφάλαιο bölüm
""".split()
_ALONE = """
    prologue epilogue preface foreword introduction afterword prolog epilog vorwort nachwort einleitung préface
    avant-propos prólogo epílogo prologo epilogo prefazione voorwoord пролог эпилог предисловие
    序 序章 序言 前言 楔子 引子 尾声 尾聲 后记 後記 まえがき あとがき プロローグ エピローグ
""".split()
_NUMBER = rf"(?:\d{{1,4}}|{_ROMAN}|(?:{'|'.join(_SPELLED)})(?:-\w+)?)"
# "Chapter 4", "Chapter 4: The Fall.", "Chapter 4 The Fall"; not "Chapter 4 was dull."
_NUMBERED = re.compile(
    rf"(?:{'|'.join(_DIVISIONS)})\s+{_NUMBER}(?!\w)\s*(?:[.:)—–-].*|[^.:)—–-].*[^.!?,;]|)", re.IGNORECASE
)
_UNNUMBERED = re.compile(rf"(?:{'|'.join(_ALONE)})[.:]?", re.IGNORECASE)
_EAST_ASIAN = re.compile(r"第[\d〇零一二三四五六七八九十百千两兩]+[章回节節卷部话話篇](?:[\s:：].*|[^。！？，]{0,20})")
_MAX_HEADING_LINES = 3
_MAX_HEADING_CHARS = 120
_MAX_EAST_ASIAN_HEADING = 40


def _read_text(path: Path) -> Book:
    text = _set_apart_east_asian_headings(decode_text(path))
    sections = _sections_of([_lines(block) for block in re.split(r"\n\s*\n", text) if block.strip()])
    return Book(path.stem, None, None, chapters_of(sections, path.stem))


def _set_apart_east_asian_headings(text: str) -> str:
    """Put blank lines around lines like 第一章, which Chinese novels set without."""
    lines = text.split("\n")
    return "\n".join(f"\n{line}\n" if _is_east_asian_heading(line.strip()) else line for line in lines)


def _is_east_asian_heading(line: str) -> bool:
    return len(line) <= _MAX_EAST_ASIAN_HEADING and _EAST_ASIAN.fullmatch(line) is not None


def _lines(block: str) -> list[str]:
    return [line.strip() for line in block.split("\n") if line.strip()]


def _sections_of(blocks: list[list[str]]) -> Iterator[Section]:
    title, paragraphs, has_body = "", list[str](), False
    for lines in blocks:
        if _is_heading(lines):
            yield Section(title, tuple(paragraphs), has_body)
            title, paragraphs, has_body = " ".join(lines), ["\n".join(lines)], False
        else:
            paragraphs.append(unwrap(lines))
            has_body = True
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


# Lines of a wrapped paragraph are about equally long; verse, lists and one paragraph a line are not.
_WRAP_COLUMNS = range(45, 111)
_EVEN = 0.6


def unwrap(lines: list[str]) -> str:
    """The lines of one paragraph, as one line where they look wrapped at a column, else as they are."""
    widths = [_columns(line) for line in lines]
    is_wrapped = max(widths) in _WRAP_COLUMNS and min(widths[:-1], default=0) >= _EVEN * max(widths)
    return _join_lines(lines) if is_wrapped else "\n".join(lines)


def _columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def _join_lines(lines: list[str]) -> str:
    joined = lines[0]
    for line in lines[1:]:
        wide = all(unicodedata.east_asian_width(side) in "WF" for side in (joined[-1], line[0]))
        tight = wide or (joined[-1] == "-" and joined[-2:-1].isalpha())
        joined += line if tight else f" {line}"
    return joined


# Markdown

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_RULE = re.compile(r" {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}")
_MARK = re.compile(r"(?:>[ \t]?)+|[-*+][ \t]+")
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])[ \t]+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_INLINE = (
    (re.compile(r"!\[([^\]\n]{0,500})\]\([^)\n]{0,2000}\)"), r"\1"),
    (re.compile(r"\[([^\]\n]{1,500})\]\([^)\n]{0,2000}\)"), r"\1"),
    (re.compile(r"\[\^[^\]\n]{1,100}\]"), ""),
    (re.compile(r"</?[a-zA-Z][^<>\n]*>"), ""),
    (re.compile(r"(`{1,8})([^`\n]+)\1"), r"\2"),
    # Twice, for emphasis within emphasis.
    *[(re.compile(r"(?<!\\)(\*{1,3}|~~)(?=\S)([^*~\n]+?)(?<=[^\s\\])\1"), r"\2")] * 2,
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_\n]+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)
_CHAPTER_LEVEL = 2


def _read_markdown(path: Path) -> Book:
    fields, body = _front_matter(decode_text(path))
    sections = list(_markdown_sections(_COMMENT.sub("", body)))
    titles = [section.title for level, section in sections if level == 1]
    title = fields.get("title") or (titles[0] if len(titles) == 1 else path.stem)
    chapters = chapters_of([section for _, section in sections], title)
    return Book(title, fields.get("author"), fields.get("language") or fields.get("lang"), chapters)


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """The simple `key: value` lines of a YAML header, and the text after it."""
    match = re.match(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", text, re.DOTALL)
    if match is None:
        return {}, text
    pairs = re.findall(r"^(\w+):(.+)$", match[1], re.MULTILINE)
    return {key.lower(): value.strip().strip("\"'") for key, value in pairs}, text[match.end() :]


def _markdown_sections(text: str) -> Iterator[tuple[int, Section]]:
    """Sections with the level of their heading, 0 before the first. Deeper headings are paragraphs."""
    level, title, blocks, has_body = 0, "", list[str](), False
    for depth, block in _markdown_blocks(text):
        if 0 < depth <= _CHAPTER_LEVEL:
            yield level, Section(title, tuple(blocks), has_body)
            level, title, blocks, has_body = depth, block, [block], False
        else:
            blocks.append(block)
            has_body = True
    yield level, Section(title, tuple(blocks), has_body)


def _markdown_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Blocks of plain text, each with its level as a heading, 0 for none."""
    waiting: list[str] = []
    fence = ""
    for line in [*text.split("\n"), ""]:
        mark = _FENCE.match(line)
        heading = None if fence else _HEADING.fullmatch(line)
        underline = None if fence or len(waiting) != 1 else _UNDERLINE.fullmatch(line)
        if underline is not None and not _LIST_ITEM.match(waiting[0]):
            yield 1 if "=" in line else 2, _plain(waiting.pop())
        elif mark is not None and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
            yield from _paragraph(waiting)
        elif heading is not None or not line.strip() or (not fence and _RULE.fullmatch(line)):
            yield from _paragraph(waiting)
            if heading is not None and (title := _plain(_without_closing_marks(heading[2]))):
                yield len(heading[1]), title
        else:
            waiting.append(line)


def _without_closing_marks(heading: str) -> str:
    """ "Title ##" is "Title"; "C#" is itself."""
    bare = heading.rstrip().rstrip("#")
    return bare if not bare or bare[-1].isspace() else heading


def _paragraph(waiting: list[str]) -> Iterator[tuple[int, str]]:
    """The block that the waiting lines make; empties them."""
    text = ""
    for line in waiting:
        # Wrapped lines are one; items and lines that end in two blanks are not.
        text += "\n" if text and (_LIST_ITEM.match(line) or text.endswith("  ")) else " " if text else ""
        text += _MARK.sub("", line.lstrip(), count=1) if _MARK.match(line.lstrip()) else line.lstrip()
    waiting.clear()
    plain = "\n".join(_plain(line) for line in text.split("\n")).strip()
    if plain:
        yield 0, plain


def _plain(line: str) -> str:
    for pattern, replacement in _INLINE:
        line = pattern.sub(replacement, line)
    return line.strip()


_READERS: dict[str, Callable[[Path], Book]] = {".txt": _read_text, ".md": _read_markdown, ".epub": read_epub}
