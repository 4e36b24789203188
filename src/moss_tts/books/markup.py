"""XML and XHTML of e-books to element trees: strictly where the text is well formed, leniently where it is not.

Nothing is looked up: entities come from HTML's own table or from plain declarations in the document, never from
files or the network, and entities that expand without end are refused.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Any

from lxml import etree

from moss_tts.books.remarks import Remarks
from moss_tts.errors import RequestError

# The most characters that a document's own entities may add to it; in a long document, as many as it has.
MAX_EXPANSION = 1 << 14
# The most attributes of an element: more are slow to parse, and no book has them.
MAX_ATTRIBUTES = 100
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())

Element = Any  # lxml has no type hints


@dataclass(frozen=True)
class Markup:
    """A parsed document.

    Attributes:
        root: its root element; None for an empty document.
        unclosed: names of elements that begin more often than they end.
    """

    root: Element | None
    unclosed: frozenset[str] = frozenset()


def local_name(element: Element) -> str:
    """The name of an element, in lower case and without its namespace or prefix; "" for those of office programs."""
    tag = element.tag
    if not isinstance(tag, str) or tag.startswith("{urn:schemas-microsoft-com"):
        return ""
    return tag.rpartition("}")[2].rpartition(":")[2].lower()


def parse_document(text: str, where: str, remarks: Remarks) -> Markup:
    """Parse an XHTML or HTML document.

    Raises:
        RequestError: entities that expand without end, or elements nested too deeply.
    """
    text = _plain_xml(text, where, remarks)
    root, flaw = _strict(text)
    if root is not None and flaw is None:
        return Markup(root)
    if text.strip():
        remarks.warn(where, "is not well formed; it was read as browsers read such pages")
    return parse_fragment(text, where)


def parse_fragment(text: str, where: str) -> Markup:
    """Parse HTML that need not be well formed; its declarations and entities are resolved already.

    Raises:
        RequestError: elements nested too deeply.
    """
    repaired, unclosed = _repaired(text)
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True)
    root = _parsed(repaired, parser)
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise RequestError(f"{where} is nested too deeply to be a text: {parser.error_log[-1].message}")
    return Markup(root, unclosed)


def parse_package(text: str, where: str, remarks: Remarks) -> Element:
    """The root of an XML document of the package; if it is broken, as much of it as can be understood.

    Raises:
        RequestError: entities that expand without end, or nothing that could be understood.
    """
    root, flaw = _strict(_plain_xml(text, where, remarks))
    if root is None:
        raise RequestError(f"{where} is broken XML: {flaw}")
    if flaw is not None:
        remarks.warn(where, f"is broken XML: {flaw}; it was read as far as it goes")
    return root


def _strict(text: str) -> tuple[Element | None, str | None]:
    """The root, and what is wrong if the text is not well formed. Prefixes that nobody declares are no flaw."""
    parser = etree.XMLParser(
        encoding="utf-8", recover=True, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True
    )
    root = _parsed(text, parser)
    flaws = [entry for entry in parser.error_log if not entry.type_name.startswith("NS_")]
    if root is None:
        return None, flaws[0].message if flaws else "it is empty"
    return root, f"{flaws[0].message}, line {flaws[0].line}" if flaws else None


def _parsed(text: str, parser: Any) -> Element | None:
    try:
        return etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:
        return None


# Declarations, entities, comments

_BOM_OR_SPACE = re.compile(r"[\ufeff\s]+")
_XML_DECLARATION = re.compile(r"<\?xml\s.*?\?>", re.DOTALL)
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DOCTYPE = re.compile(
    r"""<!DOCTYPE(?:[^\[<>"']|"[^"]*"|'[^']*')*+(?:\[((?:[^\]"'<]|"[^"]*"|'[^']*'|<)*+)\]\s*+)?+>""", re.IGNORECASE
)
_LAX_DOCTYPE = re.compile(r"<!DOCTYPE[^\[<>]*+(?:\[(.*?)\]\s*)?>", re.IGNORECASE | re.DOTALL)
_ENTITY = re.compile(r"""<!ENTITY\s+([\w.:-]+)\s+(?:"([^"]*)"|'([^']*)'|(SYSTEM|PUBLIC))""")
_REFERENCE = re.compile(r"&(#?[\w.:-]{0,64})(;?)")
_PREDEFINED = frozenset({"amp", "lt", "gt", "quot", "apos"})
_SPECIAL = re.compile(r"<!--|<!\[CDATA\[|<\?")
_ENDS = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>"}
# What shows that the end belongs to another: a second comment, an end tag in an instruction.
_NEVER_INSIDE = {"<?": "</"}
# Characters in which an instruction without "?>" may end in ">".
MAX_INSTRUCTION = 1000


def _plain_xml(text: str, where: str, remarks: Remarks) -> str:
    """The text without declarations, comments and CDATA, with characters in place of entities."""
    lead = _BOM_OR_SPACE.match(text)
    text = text[lead.end() :] if lead else text
    declaration = _XML_DECLARATION.match(text)
    if declaration is not None:
        text = text[declaration.end() :]
        if lead is not None and lead[0] != "\ufeff":
            remarks.warn(where, "has blanks before its XML declaration; they were skipped")
    clean = _NO_CHARACTER.sub("", text)
    if clean != text:
        remarks.warn(where, f"has control characters, {len(text) - len(clean)} of them; they were left out")
    body, declared = _without_doctype(_without_specials(clean, where, remarks), where)
    return _without_entities(body, declared, where, remarks)


def _without_specials(text: str, where: str, remarks: Remarks) -> str:
    """The text without comments and processing instructions, and with CDATA as plain text."""
    parts: list[str] = []
    at, find = 0, _finder(text)
    while (match := _SPECIAL.search(text, at)) is not None:
        mark, inside = match[0], match.end()
        parts.append(text[at : match.start()])
        # "<!-->" is a whole comment.
        end = find(_ENDS[mark], inside - 2 if mark == "<!--" else inside)
        is_open = inside <= find(_NEVER_INSIDE.get(mark, mark), inside) < end and not text.startswith("[if", inside)
        if end < 0 or is_open:
            at = _behind_endless(match, find, where, remarks)
            continue
        if mark == "<![CDATA[":
            parts.append(html.escape(text[inside:end]))
        at = end + len(_ENDS[mark])
    return "".join([*parts, text[at:]])


def _finder(text: str) -> Callable[[str, int], int]:
    """`text.find` for starts that only grow: together the calls for a mark take one pass over the text."""
    found: dict[str, int] = {}

    def find(mark: str, start: int) -> int:
        if mark not in found or 0 <= found[mark] < start:
            found[mark] = text.find(mark, start)
        return found[mark]

    return find


def _behind_endless(match: re.Match[str], find: Callable[[str, int], int], where: str, remarks: Remarks) -> int:
    """The place after a mark without an end: right after it, or after ">" for an instruction."""
    if match[0] == "<?":
        end = find(">", match.end())
        return end + 1 if 0 <= end < match.end() + MAX_INSTRUCTION else match.end()
    remarks.warn(where, f"has a {match[0]} without an end; the text after it was read")
    return match.end()


def _without_doctype(text: str, where: str) -> tuple[str, dict[str, str]]:
    """The text behind its document type, and the entities declared there.

    Raises:
        RequestError: an entity made of entities.
    """
    begin = _BOM_OR_SPACE.match(text)
    start = begin.end() if begin else 0
    match = _DOCTYPE.match(text, start) or _LAX_DOCTYPE.match(text, start)
    if match is None:
        return text, {}
    declared = {}
    for name, double, single, external in _ENTITY.findall(match[1] or ""):
        value = double or single
        if any(found and not _is_character(found) for found, _ in _REFERENCE.findall(value)):
            raise RequestError(f"{where} declares entities made of entities, which no book needs")
        if not external:
            declared[name] = value
    return text[match.end() :], declared


def _is_character(name: str) -> bool:
    return name.startswith("#") or name in _PREDEFINED or f"{name};" in html5


def _without_entities(text: str, declared: dict[str, str], where: str, remarks: Remarks) -> str:
    """The text with a character in place of each entity that XML does not know, and no bare ampersands.

    Raises:
        RequestError: entities of the document's own make it much longer.
    """
    grown, most = 0, max(MAX_EXPANSION, len(text))

    def character(match: re.Match[str]) -> str:
        nonlocal grown
        name, semicolon = match[1], match[2]
        if semicolon and name in _PREDEFINED:
            return match[0]
        if semicolon and name in declared:
            grown += len(declared[name])
            if grown > most:
                raise RequestError(f"{where} declares entities that make it more than {most} characters longer")
            return _REFERENCE.sub(_html_character, declared[name])
        return _html_character(match, where, remarks)

    return _REFERENCE.sub(character, text)


def _html_character(match: re.Match[str], where: str = "", remarks: Remarks | None = None) -> str:
    """What a reference stands for in HTML, escaped; itself if it stands for nothing."""
    name, semicolon = match.groups()
    if name in _PREDEFINED:
        return f"&{name};"
    found = html.unescape(f"&{name};")
    if name.startswith("#") and found != f"&{name};":
        return html.escape(_NO_CHARACTER.sub("", found.replace("\ufffd", "")))
    if name + semicolon in html5:
        return html.escape(found)
    if remarks is not None:
        what = f"the entity {match[0]}, which is not declared" if name and semicolon else "a bare &"
        remarks.warn(where, f"has {what}; it was read as it stands")
    return html.escape(match[0])


# Markup that is not well formed

_TAG = re.compile(
    r"""<(?P<slash>/?)(?P<prefix>(?:[A-Za-z][\w.-]*+:)?)(?P<name>[A-Za-z][\w.-]*+)(?=[\s/>])"""
    r"""(?:(?P<attributes>(?:[^<>"']|"[^"<]*"|'[^'<]*')*+)|[^<>]*+)>"""
)
_RAW = re.compile(r"""<(?:[A-Za-z][\w.-]*:)?(script|style|title)\b([^<>]*)>""", re.IGNORECASE)
_DECLARATION = re.compile(r"<![^<>]*>")
_BROKEN_TAG = re.compile(r"</?[A-Za-z][^<>\s]*+[^<>]*+(?=<|\Z)")
_OFFICE = frozenset({"o:", "v:", "w:", "st1:"})


def _repaired(text: str) -> tuple[str, frozenset[str]]:
    """HTML that the lenient parser loses nothing of, and the names of elements left open.

    Prefixes go, elements that end where they begin are closed, and marks behind which a parser would stop reading
    (</html>, an open <title> or <style>) are taken away.
    """
    opened: Counter[str] = Counter()

    def repaired(match: re.Match[str]) -> str:
        name, attributes = match["name"].lower(), _few(match["attributes"] or "")
        if match["prefix"] in _OFFICE or (match["slash"] and name in ("html", "body")):
            return ""
        if match["slash"]:
            opened[name] -= 1
            return f"</{name}>"
        is_whole = match[0].endswith("/>") and name not in VOID
        opened[name] += not is_whole and name not in VOID
        return f"<{name}{attributes}>" + (f"</{name}>" if is_whole else "")

    clean = _without_broken_tags(_DECLARATION.sub("", _without_raw(text)))
    parts, at = list[str](), 0
    for match in _TAG.finditer(clean):
        # Any other "<" is text: "a < b", <ann@example.com>.
        parts += [clean[at : match.start()].replace("<", "&lt;"), repaired(match)]
        at = match.end()
    whole = "".join([*parts, clean[at:].replace("<", "&lt;")])
    return whole, frozenset(name for name, count in opened.items() if count > 0)


def _few(attributes: str) -> str:
    """The attributes unchanged, or none if there are far too many."""
    parts = attributes.rstrip("/").split(maxsplit=10 * MAX_ATTRIBUTES)
    too_many = attributes.count("=") > MAX_ATTRIBUTES or len(parts) > 10 * MAX_ATTRIBUTES
    return "" if too_many else attributes.rstrip("/")


def _without_raw(text: str) -> str:
    """The text without scripts, styles and titles; one without an end goes up to the next tag."""
    parts: list[str] = []
    at, lower = 0, text.lower()
    endless: set[str] = set()
    while (match := _RAW.search(text, at)) is not None:
        name = match[1].lower()
        parts.append(text[at : match.start()])
        if match[2].endswith("/"):
            at = match.end()
            continue
        end = -1 if name in endless else _raw_end(lower, name, match.end())
        if end < 0:
            endless.add(name)
            end = text.find("<", match.end())
        at = len(text) if end < 0 else end
    return "".join([*parts, text[at:]])


def _raw_end(lower: str, name: str, start: int) -> int:
    """Where the element's end tag begins; the tag itself is harmless alone."""
    found = re.compile(rf"</(?:[\w.-]+:)?{name}").search(lower, start)
    return found.start() if found else -1


def _without_broken_tags(text: str) -> str:
    """The text without the beginnings of tags that never end; "a <b and c" is text."""

    def kept(match: re.Match[str]) -> str:
        words = match[0].split(maxsplit=1)
        is_text = len(words) > 1 and "=" not in match[0]
        return f"&lt;{match[0][1:]}" if is_text else ""

    return _BROKEN_TAG.sub(kept, text)


def walk(root: Element) -> Any:
    """("start" | "end", element) in document order, however deep. Its `skip_subtree` goes past what is inside."""
    return etree.iterwalk(root, events=("start", "end"))


def outermost(root: Element, is_wanted: Callable[[Element], bool]) -> Iterator[Element]:
    """The elements that are wanted and inside no other one of them, in document order."""
    walked = etree.iterwalk(root, events=("start",))
    for _, element in walked:
        if is_wanted(element):
            yield element
            walked.skip_subtree()
