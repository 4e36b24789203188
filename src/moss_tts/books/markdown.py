"""Markdown to chapters: markdown-it-py makes HTML of it, and xhtml.py reads that like a page of an e-book."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from pathlib import PurePath

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.attrs import attrs_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.footnote import footnote_plugin

from moss_tts.books.chapters import Book, chapters_of
from moss_tts.books.headings import sections_of, without_contents
from moss_tts.books.markup import parse_fragment
from moss_tts.books.remarks import Remarks
from moss_tts.books.xhtml import Block, read_blocks
from moss_tts.errors import RequestError

# Levels of nested lists and quotations; each level takes about four of Python's thousand nested calls.
MAX_NESTING = 100
# Brackets that are open at a place; the parser looks for the partner of each in all that follows.
MAX_OPEN_BRACKETS = 10
# Ends of lines, and signs that may be markup; each takes the parser 20 to 30 microseconds.
MAX_MARKS = 300_000

# Attributes of Pandoc and Kramdown where the plugin does not look: behind a heading, alone in a line, fenced divisions.
_LAST_ATTRIBUTES = re.compile(r"(?<![ \t\]])[ \t]*\{[:#.=][^{}\n]*\}[ \t]*\Z")
_FIRST_ATTRIBUTES = re.compile(r"\A\{(?:[.#:=]|[\w-]+=)[^{}\n]*\}")
_ATTRIBUTE_LINE = re.compile(r"^[ \t]*(?:\{:?[ \t]*[#.][^{}\n]*\}|\{:[^{}\n]*\}|:{3,}[^\n]*)[ \t]*$", re.MULTILINE)
# Places of a table of contents, and ends of pages, alone in a line; the kind of a note of GitHub and Obsidian.
_PLACE_LINE = re.compile(
    r"^[ \t]*(?:\[TOC\]|\[\[_?TOC_?\]\]|\\(?:newpage|pagebreak|clearpage|tableofcontents))[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_CALLOUT = re.compile(r"^((?:[ \t]*>)+[ \t]*)\[![\w-]+\][+-]?", re.MULTILINE)
# Links, marked text, comments, and small letters of Obsidian and Pandoc: the words that they show.
_SHOWN = (
    (re.compile(r"!?\[\[(?:[^\[\]|]*\|)?([^\[\]|]+)\]\]"), r"\1"),
    (re.compile(r"==(?=[^\s=])([^=]+)(?<=\S)=="), r"\1"),
    (re.compile(r"%%[^%]*%%"), ""),
    (re.compile(r"(?<=[^\W\d_])([~^])(\w{1,10})\1"), r"\2"),
)
# Marks of notes that are not there.
_NOTE_MARK = re.compile(r"\[\^[^\[\]\s]{1,100}\]")
_LIST_TAGS = {
    "bullet_list_open": "<div>",
    "ordered_list_open": "<div>",
    "list_item_open": "<br>",
    "list_item_close": "",
    "ordered_list_close": "</div>",
    "bullet_list_close": "</div>",
}
_BRACKET = re.compile(r"[\[\]]")
_MARK = re.compile(r"[\n*_~`\[\]<>|{}&#\\-]")
_TASK = re.compile(r"\[[ xX]\][ \t]+")


def read_markdown(text: str, name: str, remarks: Remarks) -> Book:
    """The book in a text of Markdown; the file's name is its title if the text gives none.

    Raises:
        RequestError: far more markup than a book has.
    """
    marks = sum(1 for _ in _MARK.finditer(text))
    if marks > MAX_MARKS:
        raise RequestError(f"{name} has {marks} lines and signs of markup; allowed in a book: {MAX_MARKS}")
    fields, body = _front_matter(text)
    blocks = _blocks(_without_comments(body, name, remarks), name, remarks)
    sections = list(sections_of(blocks))
    titles = [section.title for level, section in sections if level == 1]
    title = fields.get("title") or (titles[0] if len(titles) == 1 else PurePath(name).stem)
    chapters = chapters_of([section for _, section in sections], title)
    return Book(title, fields.get("author"), fields.get("language") or fields.get("lang"), chapters)


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """The simple `key: value` lines of a YAML header, or `key = value` of TOML, and the text after it."""
    match = re.match(r"(---|\+\+\+)[ \t]*\n(.*?)\n(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", text, re.DOTALL)
    if match is None:
        return {}, text
    pairs = re.findall(r"^(\w+)(?::| =)(.+)$", match[2], re.MULTILINE)
    return {key.lower(): value.strip().strip("\"'") for key, value in pairs}, text[match.end() :]


def _without_comments(text: str, name: str, remarks: Remarks) -> str:
    """The text without comments of HTML; a mark that nothing ends is taken away alone."""
    end = text.rfind("-->") + len("-->") if "-->" in text else 0
    kept = re.sub(r"<!--.*?-->", "", text[:end], flags=re.DOTALL)
    if "<!--" in text[end:]:
        remarks.warn(name, "has a <!-- without an end; the text after it was read")
    return kept + text[end:].replace("<!--", "")


def _unmarked(text: str) -> str:
    """The text without lines that are only for the layout."""
    return _PLACE_LINE.sub("", _ATTRIBUTE_LINE.sub("", text))


def _blocks(text: str, name: str, remarks: Remarks) -> list[Block]:
    page, marks = _NOTE_MARK.subn("", _PARSER.render(_CALLOUT.sub(r"\1", _unmarked(text))))
    for _ in range(marks):
        remarks.leave_out("note mark")
    blocks = read_blocks(parse_fragment(page, name), name, remarks).blocks
    return without_contents(blocks, remarks)


# How Markdown is read


def _parser() -> MarkdownIt:
    """CommonMark with tables, strikethrough, footnotes and attributes."""
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING})
    parser.enable(["table", "strikethrough"]).use(footnote_plugin).use(deflist_plugin).use(attrs_plugin, spans=True)
    parser.inline.ruler.before("emphasis", "times", _times)
    parser.core.ruler.before("inline", "markup_ends", _drop_markup)
    for rule in (_pictures_as_text, _add_list_numbers, _lists_as_lines):
        parser.core.ruler.push(rule.__name__, rule)
    return parser


def _times(state: StateInline, silent: bool) -> bool:
    """Keep stars between digits as signs: 2*3*4."""
    at = state.pos
    if state.src[at] != "*" or not (state.src[at - 1 : at].isdigit() and state.src[at + 1 : at + 2].isdigit()):
        return False
    if not silent:
        state.pending += "*"
    state.pos += 1
    return True


def _drop_markup(state: StateCore) -> None:
    """Attributes at the end of a block go, and brackets where far too many are open to be links."""
    for token in state.tokens:
        if token.type == "inline":
            token.content = _LAST_ATTRIBUTES.sub("", token.content)
            for pattern, words in _SHOWN if "`" not in token.content else ():
                token.content = pattern.sub(words, token.content)
            if _open_brackets(token.content) > MAX_OPEN_BRACKETS:
                token.content = token.content.replace("[", " ")


def _open_brackets(text: str) -> int:
    """How many brackets are open at most: in one another, or without an end."""
    depths = accumulate(
        _BRACKET.findall(text), lambda depth, sign: depth + 1 if sign == "[" else max(0, depth - 1), initial=0
    )
    return max(depths)


def _add_list_numbers(state: StateCore) -> None:
    """The number of an item is read; the box of a task is not."""
    number = None
    for token in state.tokens:
        if token.type == "list_item_open":
            number = f"{token.info}{token.markup} " if token.info else ""
        elif token.type == "inline" and token.children and number is not None:
            first = token.children[0]
            first.content = _TASK.sub("", first.content, count=1) if first.type == "text" else first.content
            token.children.insert(0, Token("text", "", 0, content=number))
            number = None


def _lists_as_lines(state: StateCore) -> None:
    """Items of a list become lines of one block."""
    for token in state.tokens:
        if token.type in _LIST_TAGS:
            page = _LIST_TAGS[token.type]
            token.type, token.content = "html_block", page if token.level == 0 or page == "<br>" else ""


def _pictures_as_text(state: StateCore) -> None:
    """Pictures become their descriptions; attributes that the plugin does not know go."""
    for token in state.tokens:
        for inner, following in pairwise([*(token.children or []), Token("text", "", 0)]):
            if inner.type in ("image", "link_close", "code_inline") and following.type == "text":
                following.content = _FIRST_ATTRIBUTES.sub("", following.content)
            if inner.type == "image":
                inner.type, inner.content = "text", "".join(part.content for part in inner.children or [])


_PARSER = _parser()
