"""Text before it enters a prompt: other values are refused, noise is removed, structure becomes punctuation.

The clean-up does not decide how to read: numbers, units and dates stay as they are typed. The text is cut into
tokens once, each rule works on tokens, and one place decides every space; so the clean-up is
idempotent and takes linear time. Every regular expression here is possessive or cannot backtrack far.

Text in [...] or {...} (speaker tags, pauses, events) or in /IPA/ is kept to the letter, as are
URLs, e-mail addresses, @names, #tags, file names and versions.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moss_tts.errors import RequestError, shown

# Scripts that do not separate words by spaces: Han and kana.
_CJK = (
    r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff"
)
_LATIN = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0300-\u036f\u1e00-\u1eff"
_WORD_CHAR = rf"[{_LATIN}\d]"
# What joins the parts of app.js.map, v2.3.1-rc, r/name or me@example.org. Neither an ellipsis nor a
# long dash does. At most three in a row, here and before a word, so that closing the gap in "3 .-b"
# cannot make a new token.
_JOINT = r"(?:[_/+:@%]|\.(?!\.\.)|-(?!-))"
_RUN = rf"{_WORD_CHAR}++(?:{_JOINT}{{1,3}}(?!https?://){_WORD_CHAR}++)*+"
# Latin words with single spaces between them are one token, for speed alone. C++ keeps its plus signs.
_WORDS = rf"{_RUN}(?:(?<=[{_LATIN}])\ (?=[{_LATIN}])(?!https?://){_RUN})*+(?:\+{{1,2}}(?=[{_CJK}]))?"
# .env, .map, ./run.sh, ../up: a full stop that begins a token and so keeps the space before it.
_LEADING_DOT = rf"(?<![{_LATIN}\d_.])\.(?!\.\.){_JOINT}{{0,2}}(?={_WORD_CHAR})"
_URL_END = r"\s，。！？；：、（）【】〖〗《》〈〉「」『』“”"
_URL = rf"(?i:https?)://(?:[.,;:!?'\"]*+[^{_URL_END}.,;:!?'\"])++"
# Wide characters cannot be IPA; without one phonetic letter, slashes are only slashes.
_NOT_IPA = r"/\u3000-\u9fff\uff00-\uffef"
_IPA = rf"/(?=[^{_NOT_IPA}]*?[æðŋθ\u0250-\u02ff\u0300-\u036f])[^{_NOT_IPA}]++/"
# Two dashes or more; hyphens at the end may be the shaft of an arrow instead.
_DASHES = r"(?:(?:-*+[—–―])++(?:-++(?![=>]))?(?<=[—–―-]{2})|-{2,}+)"
_ARROW = r"<[-=]++>?+|(?<![-=])[-=]++>|[→←↔⇒⇐⇔⟶⟵⟷⟹⟸⟺↦↤↪↩]"
# German closes with “ and ‘, Swedish opens with ”: then they have a letter, or its mark, on the other side.
_WESTERN = rf"[^\W{_CJK}]"
_OPENING_QUOTE = rf"(?<!{_WESTERN})(?<!{_WESTERN}[.,!?])[“‘]"
_CLOSING_QUOTE = rf"”(?!{_WESTERN})"
# Any character that can begin a token of its own, letters, digits and spaces aside.
_SIGNIFICANT = r"\[{/@#.,，<=\-—–―→←↔⇒⇐⇔⟶⟵⟷⟹⟸⟺↦↤↪↩。．…!?！？；：、;（【〖「『《“‘）】〗」』》”"

# Kept to the letter: tags of all kinds, and sounds in IPA.
TAG = re.compile(rf"\[[^\[\]]*+\]|\{{[^{{}}]*+\}}|{_IPA}")
_TOKEN = re.compile(
    rf"""(?P<tag>{TAG.pattern})
    |(?P<word>{_URL}|@[A-Za-z0-9_]++|(?<![A-Za-z0-9_])\#\w++(?:\[\w++\])?|{_LEADING_DOT}{_RUN}
        |{_WORDS})
    |(?P<comma>[，,]++|{_ARROW})
    |(?P<stop>(?:[。．…!?！？]|(?!{_LEADING_DOT})\.)++|{_DASHES})
    |(?P<cjk>[{_CJK}]++)
    |(?P<space>\ )
    |(?P<pause>[；：、;])
    |(?P<open>[（【〖「『《]|{_OPENING_QUOTE})
    |(?P<close>[）】〗」』》]|{_CLOSING_QUOTE})
    |(?P<other>[^\s{_LATIN}\d{_CJK}{_SIGNIFICANT}]++|.)""",
    re.VERBOSE | re.DOTALL,
)
_LATIN_LETTER = re.compile(rf"[{_LATIN}]")
_LINE_MARK = r"(?:#{1,6}|>|[-*+]) "
# Four digits are a year, not the number of a list item.
_LIST_NUMBER = r"\d{1,3} ?[.)] "
_LINE_MARKS = re.compile(rf"(?:{_LINE_MARK})++")
_NUMBERED_LINE = re.compile(rf"(?:{_LINE_MARK})*+{_LIST_NUMBER}")
_LIST_MARKS = re.compile(rf"(?:{_LINE_MARK}|{_LIST_NUMBER})++")
_LATIN_SENTENCE_END = re.compile(rf"[{_LATIN}][.!?][\"'”’)]?\Z")
_LINK_PART = re.compile(r"(\[|\]\(https?://[^\s()\[\]]++(?:\([^\s()\[\]]*+\)[^\s()\[\]]*+)*+\)|\])", re.IGNORECASE)

_PARTNERS = {"【": "】", "〖": "〗", "『": "』", "「": "」", "《": "》"}
_CLOSERS = frozenset(_PARTNERS.values())
# Marks that stay as typed when they stand alone; a lone ellipsis character does not.
_LONE_STOPS = frozenset([".", "..", "．", "。", "!", "?", "！", "？"])
_FLAT_STOPS = frozenset([".", "..", "．"])
_COLLAPSIBLE = frozenset(["stop", "comma", "pause"])
_WIDE_PUNCTUATION = "，。！？；：、"


class _Token(NamedTuple):
    kind: str
    text: str


def check_text(name: str, value: object) -> str:
    """Text that has a UTF-8 form; half a surrogate pair, which JSON can carry, has none.

    Raises:
        RequestError: anything else.
    """
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text, got {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{name} is not valid Unicode: {error.reason} at {error.start}") from error
    return value


def normalize_text(text: str) -> str:
    """The text as the models expect to read it: one line, clean spaces, plain punctuation.

    Idempotent and linear in the length of the text; letters and digits are never lost, the numbers of
    lists excepted.
    """
    line = _join_lines(_unwrap_links(_drop_invisible(text)))
    tokens = _collapse_repeats(_tokenise(line))
    return _join_tokens(_collapse_repeats(_unwrap_brackets(tokens)))


def _drop_invisible(text: str) -> str:
    """Remove zero-width, control and unassigned characters; white space of every kind stays for now."""
    return "".join(c for c in text if c.isspace() or not unicodedata.category(c).startswith("C"))


def _unwrap_links(text: str) -> str:
    """Markdown [label](url) -> label url. Labels may hold brackets, and links too."""
    parts: list[str] = []
    open_brackets: list[int] = []
    for part in _LINK_PART.split(text):
        is_link = part.startswith("](") and bool(open_brackets)
        if part == "[":
            open_brackets.append(len(parts))
        elif part.startswith("]") and open_brackets:
            opening = open_brackets.pop()
            parts[opening] = "" if is_link else "["
        # The space after the URL keeps it apart from the text that follows.
        parts.append(f" {part[2:-1]} " if is_link else part)
    return "".join(parts)


def _join_lines(text: str) -> str:
    """Remove Markdown line marks, squeeze white space, and turn line breaks into sentence ends."""
    squeezed = [" ".join(line.split()) for line in text.splitlines()]
    # A number alone is no list: "3. Oktober".
    marks = _LIST_MARKS if sum(map(bool, map(_NUMBERED_LINE.match, squeezed))) > 1 else _LINE_MARKS
    lines = [unmarked for line in squeezed if (unmarked := _without(marks, line))]
    return "".join([_end_line(line) for line in lines[:-1]] + lines[-1:])


def _without(marks: re.Pattern[str], line: str) -> str:
    found = marks.match(line)
    return line[found.end() :] if found else line


def _end_line(line: str) -> str:
    """A line and what its line break becomes; a Latin sentence that has its full stop keeps it.

    Not after a digit: "1." and a space would be a list mark.
    """
    if _LATIN_SENTENCE_END.search(line, max(0, len(line) - 3)):
        return line + " "
    return line.rstrip(" ,，、") + "。"


def _tokenise(line: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(line):
        kind, text = match.lastgroup or "other", match[0]
        if kind == "word" and text[0].isdigit() and not _LATIN_LETTER.search(text):
            kind = "number"
        yield _Token(kind, text)


def _collapse_repeats(tokens: Iterable[_Token]) -> list[_Token]:
    """Runs of the same punctuation, spaced or not, become one mark; runs of spaces become one space."""
    merged: list[_Token] = []
    for token in tokens:
        if token.kind == "space":
            if merged and merged[-1].kind != "space":
                merged.append(token)
        elif token.kind in _COLLAPSIBLE:
            _append_mark(merged, token)
        else:
            merged.append(token)
    return merged


def _append_mark(merged: list[_Token], mark: _Token) -> None:
    at = _last_visible(merged)
    if at is not None and _repeats(merged[at], mark):
        mark = _Token(mark.kind, merged[at].text + mark.text)
        del merged[at:]
    merged.append(_Token(mark.kind, _collapse(mark)))


def _last_visible(tokens: list[_Token]) -> int | None:
    """Index of the last token that is not a space."""
    return next((at for at in range(len(tokens) - 1, -1, -1) if tokens[at].kind != "space"), None)


def _repeats(left: _Token, right: _Token) -> bool:
    return left.kind == right.kind and (right.kind != "pause" or left.text == right.text)


def _collapse(mark: _Token) -> str:
    if mark.kind == "stop":
        return _collapse_stops(mark.text)
    if mark.kind == "comma":
        return "," if mark.text == "," else "，"
    return mark.text[0]


def _collapse_stops(marks: str) -> str:
    """Sentence-ending marks, dashes included, as one: a question and a cry outlast a full stop."""
    if marks in _LONE_STOPS:
        return marks
    asks = any(c in "?？" for c in marks)
    shouts = any(c in "!！" for c in marks)
    return ("？" if asks else "") + ("！" if shouts else "") or "。"


def _unwrap_brackets(tokens: list[_Token]) -> list[_Token]:
    """Headlines in 【】 and lone titles in 《》 lose their brackets where a sentence begins.

    A headline becomes a sentence of its own. A title is unwrapped only if punctuation follows it, for
    《》 inside a sentence names a work. Stops that meet here are still to be collapsed.
    """
    pairs = list(_matched_pairs(tokens))
    headlines = _lone_pairs(pair for pair in pairs if tokens[pair[0]].text != "《")
    titles = _lone_pairs(pair for pair in pairs if tokens[pair[0]].text == "《")
    ends: dict[int, str] = {}
    kept: list[_Token] = []
    for at, token in enumerate(tokens):
        if at in ends:
            if ends[at]:
                kept.append(_Token("stop", ends[at]))
        elif at in headlines and _begins_sentence(kept) and _is_headline(tokens, at, headlines[at], kept):
            ends[headlines[at]] = "。"
        elif at in titles and _begins_sentence(kept) and _is_lone_title(tokens, at, titles[at], kept, ends):
            ends[titles[at]] = ""
        else:
            kept.append(token)
    return kept


def _matched_pairs(tokens: list[_Token]) -> Iterator[tuple[int, int]]:
    """Indices of brackets that belong together; a closing bracket of the wrong kind ends all that are open."""
    unclosed: list[int] = []
    for at, token in enumerate(tokens):
        if token.text in _PARTNERS:
            unclosed.append(at)
        elif token.text in _CLOSERS:
            if unclosed and _PARTNERS[tokens[unclosed[-1]].text] == token.text:
                yield unclosed.pop(), at
            else:
                unclosed.clear()


def _lone_pairs(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Opening -> closing index of the pairs neither in nor around another one.

    Taking such a pair away leaves the others what they are.
    """
    lone: dict[int, int] = {}
    outer = outer_end = -1
    for opening, closing in sorted(pairs):
        if opening < outer_end:
            lone.pop(outer, None)
        else:
            lone[opening] = closing
            outer, outer_end = opening, closing
    return lone


def _begins_sentence(kept: list[_Token]) -> bool:
    at = _last_visible(kept)
    if at is None:
        return True
    kind, text = kept[at]
    return (kind == "stop" and text not in _FLAT_STOPS) or text in ("；", ";")


def _is_headline(tokens: list[_Token], opening: int, closing: int, kept: list[_Token]) -> bool:
    content = tokens[opening + 1 : closing]
    return _is_visible(content) and not (_is_empty(kept) and _begins_with_mark(content))


def _is_lone_title(tokens: list[_Token], opening: int, closing: int, kept: list[_Token], ends: dict[int, str]) -> bool:
    """Whether punctuation, or the end of the text or of the headline around it, follows the title."""
    after = closing + 1
    while after < len(tokens) and tokens[after].kind == "space":
        after += 1
    followed = after == len(tokens) or after in ends or tokens[after].kind in ("stop", "comma")
    if not followed and tokens[after].text not in ("；", ";"):
        return False
    content = tokens[opening + 1 : closing]
    revealed = content + tokens[closing + 1 : after + 3]
    return _is_visible(content) and not (_is_empty(kept) and _begins_with_mark(revealed))


def _is_visible(tokens: list[_Token]) -> bool:
    return any(token.kind != "space" for token in tokens)


def _is_empty(kept: list[_Token]) -> bool:
    return _last_visible(kept) is None


def _begins_with_mark(tokens: list[_Token]) -> bool:
    """Whether the text would begin with a list mark, which a second clean-up would take away."""
    return _LINE_MARKS.match(_join_tokens(tokens)) is not None


def _join_tokens(tokens: list[_Token]) -> str:
    parts: list[str] = []
    left: _Token | None = None
    spaced = False
    for token in tokens:
        if token.kind == "space":
            spaced = True
            continue
        if left is not None and _needs_space(left, token, spaced):
            parts.append(" ")
        parts.append(token.text)
        left, spaced = token, False
    return "".join(parts)


def _needs_space(left: _Token, right: _Token, spaced: bool) -> bool:
    """Every space of the result is decided here. Rules in order: Latin next to CJK is set apart, other
    spaces only survive; CJK and numbers have none between them, punctuation none on its inner side.
    """
    kinds = {left.kind, right.kind}
    if kinds == {"cjk", "word"}:
        return True
    if not spaced or (kinds <= {"cjk", "number"} and "cjk" in kinds):
        return False
    if right.kind in ("stop", "comma", "pause", "close"):
        return False
    return left.kind != "open" and not (left.kind != "close" and left.text[-1] in _WIDE_PUNCTUATION)
