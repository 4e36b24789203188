"""Books that are made to do harm: reading one takes time in proportion to its size, or it is refused."""

import gc
import time
import zipfile
from contextlib import suppress
from functools import partial
from io import BytesIO, StringIO

import numpy as np
import pytest
from rich.console import Console

from moss_tts.audio.m4b import ChapterMark, Tags, write_m4b
from moss_tts.books import archive as epub_archive
from moss_tts.books import book as book_files
from moss_tts.books import encodings, markdown
from moss_tts.books.book import read_book
from moss_tts.cli.book_files import Destination
from moss_tts.cli.book_plan import show_plan
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import MossTTSError, MossTTSWarning, RequestError
from moss_tts.text.characters import plain_characters
from moss_tts.text.english.reading import in_words
from moss_tts.text.lines import paragraphs
from moss_tts.text.markup import without_tags
from moss_tts.text.sentences import sentences
from support.books import archive, epub_of, nav, ncx, package, written, xhtml

# What takes the square of the size takes 16 times as long for 4 times as much.
MOST_GROWTH = 9
# Seconds of the processor that say nothing about growth.
NOISE = 0.3


def seconds_of(work):
    # Collections of garbage meanwhile leave out what other tests keep.
    gc.freeze()
    began = time.process_time()
    with suppress(MossTTSError):
        work()
    took = time.process_time() - began
    gc.unfreeze()
    return took


def assert_linear(prepare, size):
    """`prepare(n)` returns what is timed, for about n characters: `size` of them, then 4 times as many."""
    once, four_times = (seconds_of(prepare(n)) for n in (size, 4 * size))
    assert four_times < MOST_GROWTH * once + NOISE


def assert_book_is_linear(folder, name, make, size):
    assert_linear(lambda n: partial(read_book, written(folder, name, make(n))), size)


def nested(begin, end, depth, inside):
    return begin * depth + inside + end * depth


# EPUB

PAGES = {
    "marks that can be read in two ways": lambda n: "<p>Text.</p>" + f"<sup>{'n 1 ' * 19}!</sup>" * (n // 2000),
    "pictures named by lines": lambda n: f'<p>Text. <img alt="{"a_" * (n // 2)}!"/></p>',
    "pictures named by digits": lambda n: f'<p>Text. <img alt="{"1" * n}!"/></p>',
    "initials in initials": lambda n: nested('<i class="dropcap">', "</i>", n // 100, '<img alt="A"/>' * (n // 10)),
    "formulas in formulas": lambda n: f"<math>{nested('<mi>', '</mi>', n // 100, '<b/>' * (n // 2))}</math>",
    "links": lambda n: '<p><a href="#a">Link</a></p>' * (n // 10),
    "contents in contents": lambda n: (
        '<p><a href="#a">Contents</a></p>' * (n // 20) + "<p>Words of text.</p>" * (n // 8)
    ),
    "sections without words": lambda n: "<h1>*</h1><p>- -</p>" * (n // 10) + "<p>Text.</p>",
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_take_linear_time(tmp_path, page):
    assert_book_is_linear(tmp_path, "x.epub", lambda n: archive(epub_of({"a.xhtml": PAGES[page](n)})), 20_000)


ITEM = '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'


def items(count, form):
    return "".join(form.format(number, number + 1) for number in range(count))


def opf(extra_items, itemrefs):
    return package(["a.xhtml"], extra_items, itemrefs=f'<itemref idref="d0"/>{itemrefs}')


PACKAGES = {
    "unknown items": lambda n: opf(items(n, '<item id="i{}" href="b"/>'), items(n, '<itemref idref="x{}"/>')),
    "items in another case": lambda n: opf(items(n, '<item id="i{}" href="b"/>'), '<itemref idref="I0"/>' * n),
    "a chain of fallbacks": lambda n: opf(
        items(n, '<item id="i{}" href="b" media-type="b" fallback="i{}"/>'), items(n, '<itemref idref="i{}"/>')
    ),
    "one document": lambda n: opf("", '<itemref idref="d0"/>' * n),
    "creators in creators": lambda n: opf("", "").replace(
        "</metadata>", nested("<dc:creator>", "</dc:creator>", n // 5, "A" * 20 * n) + "</metadata>"
    ),
}


@pytest.mark.parametrize("kind", PACKAGES)
def test_packages_take_linear_time(tmp_path, kind):
    files = epub_of({"a.xhtml": "<p>Text.</p>"})
    assert_book_is_linear(tmp_path, "x.epub", lambda n: archive(files | {"OEBPS/book.opf": PACKAGES[kind](n)}), 1500)


LINK = '<a href="a.xhtml">One</a>'


def toc(inside):
    return xhtml(f'<nav epub:type="toc">{inside}</nav>')


TABLES = {
    "many links": lambda n: nav([(f"a.xhtml#i{number}", "One") for number in range(n)]),
    "links that lead nowhere": lambda n: nav([(f"{number}.xhtml#i", "One") for number in range(n)]),
    "links in links": lambda n: toc(nested('<a href="a.xhtml">', "</a>", n // 10, "One" * 10 * n)),
    "labels in labels": lambda n: toc(nested("<li><span>", "</span></li>", n // 20, "One" * 20 * n)),
    "tables in tables": lambda n: xhtml(nested('<nav epub:type="toc">', "</nav>", n // 10, "<b/>" * 10 * n) + LINK),
    "a branch at every level": lambda n: toc(nested(f"<ol><li>{LINK}", "</li></ol>", n // 20, f"<ol>{LINK * n}</ol>")),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_contents_take_linear_time(tmp_path, kind):
    files = epub_of({"a.xhtml": "<p>Text.</p>"}, [("a.xhtml", "One")])
    assert_book_is_linear(tmp_path, "x.epub", lambda n: archive(files | {"OEBPS/nav.xhtml": TABLES[kind](n)}), 1500)


def test_points_in_labels_take_linear_time(tmp_path):
    point = "<navPoint><navLabel><text>One</text>", "</navLabel></navPoint>"
    files = epub_of({"a.xhtml": "<p>Text.</p>"}, [("a.xhtml", "One")], "ncx")

    def of(n):
        inside = nested(*point, n // 40, "One" * 20 * n)
        return archive(files | {"OEBPS/toc.ncx": ncx([]).replace("</navMap>", f"{inside}</navMap>")})

    assert_book_is_linear(tmp_path, "x.epub", of, 2000)


def test_many_files_take_linear_time(tmp_path):
    """Each has the same flaw, calls itself the table of contents, and has no words."""
    item = '<item id="d{0}" href="{0}.xhtml" media-type="application/xhtml+xml" properties="nav"/>'

    def of(n):
        files = epub_of({f"{number}.xhtml": "" for number in range(n)} | {"a.xhtml": "<p>Text.</p>"})
        files |= {f"OEBPS/{number}.xhtml": "<p>* * *" for number in range(n)}
        names = [f"{number}.xhtml" for number in range(n)]
        return archive(files | {"OEBPS/book.opf": package([*names, "a.xhtml"], items(n // 2, item))})

    assert_book_is_linear(tmp_path, "x.epub", of, 500)


def test_entities_may_double_a_book_but_no_more(tmp_path):
    page = '<!DOCTYPE html [<!ENTITY e "' + "word " * 300 + '">]><html><body><p>' + "&e;" * 12 + "</p></body></html>"
    path = written(tmp_path, "x.epub", archive(epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": page}))
    with pytest.raises(RequestError, match="declares entities that make it more than 16384 characters longer"):
        read_book(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", [b"", b"\x55" * 20])
def test_what_unpacks_to_any_size_at_once_is_refused(tmp_path, method, damage):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        for name, content in epub_of({"a.xhtml": "<p>Text.</p>"}).items():
            target.writestr(name, content)
    content = buffer.getvalue()
    content = content[:70] + damage + content[70 + len(damage) :]
    with pytest.raises(RequestError, match="allowed: stored and deflated"):
        read_book(written(tmp_path, "x.epub", content))


def test_a_table_of_entries_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(epub_archive, "MAX_DOCUMENT_BYTES", 3000)
    files = epub_of({"a.xhtml": "<p>Text.</p>"}) | {f"{number}.png": "" for number in range(100)}
    with pytest.raises(RequestError, match="its table of entries has more than 3001 bytes"):
        read_book(written(tmp_path, "x.epub", archive(files)))


def test_names_of_entries_have_a_limit(tmp_path):
    files = epub_of({"a.xhtml": "<p>Text.</p>"}) | {"a/" * 600: ""}
    with pytest.raises(RequestError, match="the name of an entry has 1200 characters; allowed: 1000"):
        read_book(written(tmp_path, "x.epub", archive(files)))


def test_tags_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(epub_archive, "MAX_MARKS", 100)
    documents = {f"{number}.xhtml": "<p>Text &amp; text.</p>" for number in range(20)}
    with pytest.raises(RequestError, match="its documents have more than 100 tags and entities"):
        read_book(written(tmp_path, "x.epub", archive(epub_of(documents))))


def test_the_encodings_of_many_files_are_guessed_in_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "MAX_SAMPLES", 300)
    pages = {f"{number}.xhtml": xhtml(f"<p>größer als {number}</p>").encode("cp1252") for number in range(9)}
    files = epub_of(dict.fromkeys(pages, "")) | {f"OEBPS/{name}": page for name, page in pages.items()}
    book = read_book(written(tmp_path, "x.epub", archive(files)))
    assert [chapter.text for chapter in book.chapters] == [f"größer als {number}" for number in range(9)]


@pytest.mark.parametrize("damage", ["cut", "unpacked", "too large"])
def test_a_cover_that_cannot_be_unpacked_is_left_out(tmp_path, damage, monkeypatch):
    cover = '<item id="c" href="c.png" media-type="image/png" properties="cover-image"/>'
    files = epub_of({"a.xhtml": "<p>Text.</p>"}, extra_items=cover) | {
        "OEBPS/c.png": b"\x89PNG\r\n\x1a\n" + bytes(5000)
    }
    content = archive(files)
    if damage == "cut":
        content = content.replace(b"OEBPS/c.png", b"OEBPS/d.png", 1)
    elif damage == "too large":
        monkeypatch.setattr(epub_archive, "MAX_DOCUMENT_BYTES", 3000)
    book = read_book(written(tmp_path, "x.epub", content))
    assert (book.cover is None) == (damage != "unpacked")
    assert bool(book.warnings) == (damage != "unpacked")


@pytest.mark.parametrize("cover", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"x" * 1000])
def test_a_damaged_cover_does_not_cost_the_book(tmp_path, cover):
    path, mark = tmp_path / "x.m4b", ChapterMark("One", 0, 2400)
    with pytest.warns(MossTTSWarning, match="The cover is left out"):
        write_m4b(path, [np.zeros(2400, np.int16)], 24_000, 1, [mark], Tags("The Book", cover=cover))
    assert path.is_file()


ENCODINGS = "rot13 utf-7 idna punycode unicode_escape raw_unicode_escape undefined base64 zlib uu mbcs aliases".split()


@pytest.mark.parametrize("encoding", [*ENCODINGS, "a" * 100_000, "utf-8\x00"])
def test_encodings_that_only_python_knows_are_none(tmp_path, encoding):
    page = xhtml("<p>größer</p>").replace("utf-8", encoding)
    book = read_book(written(tmp_path, "x.epub", archive(epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": page})))
    assert book.chapters[0].text == "größer"


HREFS = [
    "http://[",
    "//[",
    "http://[::1",
    "a%00.xhtml",
    "\uff0f\uff0f[",
    "%ff%fe",
    "%",
    "data:,x",
    "//\u2100",
    "#[",
    "?",
]


@pytest.mark.parametrize("href", HREFS)
def test_addresses_that_are_none_are_no_document(tmp_path, href):
    files = epub_of({"a.xhtml": f'<p>Text <a href="{href}">link</a>.</p>'}, [("a.xhtml", "One"), (href, "Two")])
    manifest = package(["a.xhtml", href], '<item id="nav" href="nav.xhtml" properties="nav"/>')
    book = read_book(written(tmp_path, "x.epub", archive(files | {"OEBPS/book.opf": manifest})))
    assert book.chapters[-1].text.endswith("Text link.")


# Markdown and plain text

MARKDOWN = {
    "comments": "<!--", "paragraphs of brackets": "[" * 99 + "\n\n",
    "brackets": "[", "links": "[a](", "stars": "*a **b ", "quotes": "> ", "lists": "- ",
    "ticks": "`` ` ", "blanks": " ", "notes": "[^a] ",
    "headings": "# *\n\n-\n\n", "tags": "<a ", "attributes": "[a]{.b} ",
}  # fmt: skip


@pytest.mark.parametrize("marks", MARKDOWN)
def test_markdown_takes_linear_time(tmp_path, marks):
    form = MARKDOWN[marks]
    assert_book_is_linear(tmp_path, "x.md", lambda n: f"Text.\n\na {form * (n // len(form))}b\n", 6000)


def test_markup_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(markdown, "MAX_MARKS", 100)
    with pytest.raises(RequestError, match=r"x\.md has 200 lines and signs of markup; allowed in a book: 100"):
        read_book(written(tmp_path, "x.md", "*a*" * 100))


def test_lines_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(book_files, "MAX_LINES", 100)
    with pytest.raises(RequestError, match=r"x\.txt has 200 lines; a book may have 100"):
        read_book(written(tmp_path, "x.txt", "a\n" * 200))


def test_a_paragraph_may_have_many_links(tmp_path):
    text = read_book(written(tmp_path, "x.md", "[one](a.md) and " * 300)).chapters[0].text
    assert text == " ".join(["one and"] * 300)


TEXTS = {
    "a long number": lambda n: "m" * n,
    "a number of chapters": lambda n: "Chapter 1" + " " * (n // 2) + "." * (n // 2) + "\n\nText.",
    "a number with dots": lambda n: "Text.\n\n1" + "." * n + "\n\nText.",
    "a number of a page": lambda n: "Text.\n\n" + " " * n + "x\fText.",
    "numbers": lambda n: "\n\nText.\n\n".join(str(number % 999) for number in range(1, n // 4)),
    "headers of Project Gutenberg": lambda n: "*** START OF THE PROJECT GUTENBERG EBOOK\n" * (n // 10) + "Text.",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_plain_text_takes_linear_time(tmp_path, kind):
    assert_book_is_linear(tmp_path, "x.txt", TEXTS[kind], 10_000)


PREPARED = {
    "tags": (without_tags, lambda n: "[" + "a" * n),
    "rules of tables": (paragraphs, lambda n: "-" * (n // 10) + "a"),
    "dots": (sentences, lambda n: ".. " * (n // 3) + "x"),
    "ellipses": (sentences, lambda n: "." * n + "X"),
    "blanks": (sentences, lambda n: "x" + " " * n + "x"),
    "names of files": (in_words, lambda n: "a-b-" * (n // 20)),
    "marks on letters": (plain_characters, lambda n: "a" + "\u0301\u0316" * (n // 2)),
}


@pytest.mark.parametrize("kind", PREPARED)
def test_texts_are_prepared_in_linear_time(kind):
    prepare, make = PREPARED[kind]
    assert_linear(lambda n: partial(lambda text: list(prepare(text)), make(n)), 5000)


# What is shown

ATTACK = "\x1b[31m\x9b2J\u202eTitle\u2066\x07"
PLAIN = "[31m 2J Title"


def shown(path):
    """What --plan shows of a book, and the book."""
    told, book = StringIO(), read_book(path)
    console = Console(file=told, width=10_000, highlight=False)
    show_plan(book, {}, "org/name", Destination(path.with_name("out")), Terminal(stdout=console, stderr=console))
    return told.getvalue(), book


def assert_plain(text):
    assert not [character for character in text if not (character.isprintable() or character in "\n\t")]


@pytest.mark.parametrize("suffix", ["txt", "md"])
def test_titles_of_texts_steer_no_terminal(tmp_path, suffix):
    text, book = shown(written(tmp_path, f"{ATTACK}.{suffix}", f"Chapter 1: {ATTACK}\n\nIt was {ATTACK} cold.\n"))
    assert_plain(text)
    assert_plain(f"{book.title}{book.author}{book.chapters[0].title}")
    assert PLAIN in text


@pytest.mark.parametrize("suffix", ["txt", "md"])
def test_the_name_of_a_file_steers_no_terminal(tmp_path, suffix):
    """A book of nothing but a heading has its only chapter named after the file."""
    book = read_book(written(tmp_path, f"{ATTACK}.{suffix}", "Chapter 1\n" if suffix == "txt" else "# One\n"))
    assert_plain(f"{book.title}{book.chapters[0].title}")


def test_names_in_an_epub_steer_no_terminal(tmp_path):
    attack = ATTACK.replace("\x1b", "").replace("\x07", "")  # which XML cannot have
    files = epub_of({"a.xhtml": f"<h1>{attack}</h1><p>It was {attack} cold"}, [("a.xhtml", attack)])
    opf = files["OEBPS/book.opf"].replace("The Book", attack).replace("Ann Author", attack).replace("en-GB", attack)
    opf = opf.replace("</spine>", f'<itemref idref="{attack}"/></spine>')
    text, book = shown(written(tmp_path, "x.epub", archive(files | {"OEBPS/book.opf": opf})))
    assert_plain(text)
    assert_plain("".join([book.title, book.author, book.language, *book.warnings, *book.left_out]))
    assert book.warnings


def test_names_of_any_length_are_cut(tmp_path):
    files = epub_of({"a.xhtml": "<p>Text.</p>"}, [("a.xhtml", "word " * 10_000)])
    opf = files["OEBPS/book.opf"].replace("The Book", "word " * 10_000).replace("Ann Author", "word " * 10_000)
    opf = opf.replace("</spine>", f'<itemref idref="{"x" * 100_000}"/></spine>')
    book = read_book(written(tmp_path, "x.epub", archive(files | {"OEBPS/book.opf": opf})))
    said = [book.title, book.author, *book.warnings, *(chapter.title for chapter in book.chapters)]
    assert max(map(len, said)) < 1000
