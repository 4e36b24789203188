"""Books in, chapters out: what was written is what is read, and hostile files are refused."""

import io
import zipfile
from html import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_tts.books import archive as epub_archive
from moss_tts.books.book import read_book
from moss_tts.books.plain_text import unwrap
from moss_tts.errors import RequestError
from support.books import CONTAINER, archive, epub_of, package, read, written, xhtml

words = st.text(st.sampled_from("abcdefgh éßж你好"), min_size=1, max_size=30).map(lambda text: " ".join(text.split()))
prose = words.filter(bool).map(lambda text: f"It is {text} so.")
chapters = st.lists(st.tuples(words.filter(bool), st.lists(prose, min_size=1, max_size=4)), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("books")


# EPUB


def body_of(title, paragraphs, name=""):
    heading = f'<h2 id="{name}">{escape(title)}</h2>' if name else f"<h2>{escape(title)}</h2>"
    return heading + "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)


def expected(chapters):
    return [(title, "\n\n".join([title, *paragraphs])) for title, paragraphs in chapters]


@settings(max_examples=50, deadline=None)
@given(chapters, st.sampled_from([None, "nav", "ncx"]))
def test_an_epub_gives_back_its_chapters(folder, chapters, toc_kind):
    documents = {f"c{n}.xhtml": body_of(*chapter) for n, chapter in enumerate(chapters)}
    toc = [(name, title) for name, (title, _) in zip(documents, chapters, strict=True)] if toc_kind else None
    files = epub_of(documents, toc, toc_kind)
    assert read(folder, "book.epub", archive(files)) == expected(chapters)


@settings(max_examples=50, deadline=None)
@given(chapters, st.sampled_from(["nav", "ncx"]))
def test_chapters_in_one_document_are_told_apart_by_their_ids(folder, chapters, toc_kind):
    body = "".join(body_of(title, paragraphs, f"id{n}") for n, (title, paragraphs) in enumerate(chapters))
    toc = [(f"all%20in%20one.xhtml#id{n}", title) for n, (title, _) in enumerate(chapters)]
    files = epub_of({"all%20in%20one.xhtml": body}, toc, toc_kind)
    files["OEBPS/all in one.xhtml"] = files.pop("OEBPS/all%20in%20one.xhtml")
    assert read(folder, "book.epub", archive(files)) == expected(chapters)


def test_metadata_comes_from_the_package(folder):
    book = read_book(written(folder, "x.epub", archive(epub_of({"a.xhtml": "<p>Text.</p>"}))))
    assert (book.title, book.author, book.language) == ("The Book", "Ann Author, Bo Writer", "en-GB")
    assert book.chapters[0].title == "The Book"


def test_a_document_without_an_entry_goes_on_with_the_chapter_before_it(folder):
    documents = {"a.xhtml": "<h1>One</h1><p>First.</p>", "b.xhtml": "<p>Second.</p>", "c.xhtml": "<p>Third.</p>"}
    files = epub_of(documents, [("a.xhtml", "One"), ("c.xhtml", "Two")])
    assert read(folder, "x.epub", archive(files)) == [("One", "One\n\nFirst.\n\nSecond."), ("Two", "Third.")]


def test_a_part_title_is_read_with_its_first_chapter(folder):
    documents = {"p.xhtml": "<h1>PART ONE</h1>", "a.xhtml": "<h2>I</h2><p>Text.</p>"}
    files = epub_of(documents, [("p.xhtml", "PART ONE"), ("a.xhtml", "I")])
    assert read(folder, "x.epub", archive(files)) == [("I", "PART ONE\n\nI\n\nText.")]


def test_what_stands_aside_of_the_text_is_not_read(folder):
    documents = {"a.xhtml": "<p>Read.</p>", "notes.xhtml": "<p>Aside.</p>"}
    itemrefs = '<itemref idref="nav"/><itemref idref="d0"/><itemref idref="d1" linear="no"/>'
    files = epub_of(documents, [("a.xhtml", "A")], itemrefs=itemrefs)
    assert read(folder, "x.epub", archive(files)) == [("A", "Read.")]


MARKUP = [
    ("<p>A &amp; B &eacute; &#8212; &nbsp;&hellip;</p>", "A & B é — …"),
    ("<p>one\n   two<br/>three</p>", "one two\nthree"),
    ("<div><p>a <b>b<i>c</i></b></p>d<ul><li>e</li><li>f</li></ul></div>", "a bc\n\nd\n\ne\n\nf"),
    ('<p>page<span epub:type="pagebreak" id="p5"/>d text<a epub:type="noteref" href="#n">1</a></p>', "paged text"),
    ('<p>x</p><aside epub:type="footnote"><div>no <aside>nor</aside> this</div></aside><p>y</p>', "x\n\ny"),
    ("<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字</p>", "漢字"),
    ("<script>if (a < b) {}</script><style>p {}</style><p>z</p><svg><text>no</text></svg>", "z"),
    ("<p>soft\u00adhyphen <![CDATA[raw & text]]></p>", "softhyphen raw & text"),
    ('<p><img src="t.png" alt="T"/>he <img src="x.png" alt="A cat"/>cat</p>', "The cat"),
    ("<p>unclosed <b>bold<p>next", "unclosed bold\n\nnext"),
    ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
]


@pytest.mark.parametrize(("body", "text"), MARKUP)
def test_markup_becomes_plain_text(folder, body, text):
    assert read(folder, "x.epub", archive(epub_of({"a.xhtml": body}))) == [("The Book", text)]


def test_documents_are_decoded_as_they_declare(folder):
    files = epub_of({"a.xhtml": "", "b.xhtml": "", "c.xhtml": ""})
    page = xhtml("<p>größer</p>")
    files["OEBPS/a.xhtml"] = page.replace("utf-8", "iso-8859-1").encode("latin-1")
    files["OEBPS/b.xhtml"] = page.encode("utf-16")
    files["OEBPS/c.xhtml"] = b"\xef\xbb\xbf" + page.encode()
    assert [text for _, text in read(folder, "x.epub", archive(files))] == ["größer"] * 3


GOOD = {"a.xhtml": "<p>Text.</p>"}
LAUGHS = '<!DOCTYPE c [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>' + CONTAINER.removeprefix('<?xml version="1.0"?>')
DRM = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
    'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
    '<enc:EncryptionMethod Algorithm="{}"/></enc:EncryptedData></encryption>'
)
NO_TEXT = package(["a.xhtml"]).replace("application/xhtml+xml", "application/pdf")
ATTACKS = {
    "declares entities": {"META-INF/container.xml": LAUGHS},
    "protected by DRM": {"META-INF/encryption.xml": DRM.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")},
    "points outside": {"OEBPS/book.opf": package(["../../etc/passwd"])},
    "points outside the book: /etc": {"OEBPS/book.opf": package(["/etc/passwd"])},
    "container.xml is missing": {"META-INF/container.xml": None},
    "a.xhtml is missing": {"OEBPS/a.xhtml": None},
    "broken XML": {"OEBPS/book.opf": "<package><metadata></package>"},
    "names no package": {"META-INF/container.xml": "<container/>"},
    "its spine names 'd7'": {"OEBPS/book.opf": package(["a.xhtml"], itemrefs='<itemref idref="d7"/>')},
    "must be XHTML": {"OEBPS/book.opf": NO_TEXT},
    "has no text": {"OEBPS/a.xhtml": xhtml("<p> </p>")},
    "unpacks to more than": {"OEBPS/a.xhtml": b" " * (epub_archive.MAX_DOCUMENT_BYTES + 1)},
}


@pytest.mark.parametrize(("message", "changes"), ATTACKS.items(), ids=ATTACKS)
def test_broken_and_hostile_epubs_are_refused(folder, message, changes):
    files = {name: content for name, content in (epub_of(GOOD) | changes).items() if content is not None}
    with pytest.raises(RequestError, match=message):
        read_book(written(folder, "x.epub", archive(files)))


def test_the_whole_book_has_a_limit_too(folder, monkeypatch):
    monkeypatch.setattr(epub_archive, "MAX_TOTAL_BYTES", 3000)
    documents = {f"{n}.xhtml": f"<p>{'word ' * 200}</p>" for n in range(4)}
    with pytest.raises(RequestError, match="unpacks to more than"):
        read_book(written(folder, "x.epub", archive(epub_of(documents))))


def test_scrambled_fonts_are_no_protection(folder):
    files = epub_of(GOOD) | {"META-INF/encryption.xml": DRM.format("http://www.idpf.org/2008/embedding")}
    assert read(folder, "x.epub", archive(files)) == [("The Book", "Text.")]


@pytest.mark.parametrize("kept", [0, 10, 200, -30])
def test_a_cut_off_epub_is_refused(folder, kept):
    with pytest.raises(RequestError, match="not an EPUB"):
        read_book(written(folder, "x.epub", archive(epub_of(GOOD))[:kept]))


def test_a_damaged_epub_is_refused(folder):
    files = archive(epub_of({"a.xhtml": "<p>" + "Some text. " * 50 + "</p>"}))
    with zipfile.ZipFile(io.BytesIO(files)) as opened:
        offset = opened.getinfo("OEBPS/a.xhtml").header_offset + 60
    with pytest.raises(RequestError, match=r"not an EPUB|declare"):
        read_book(written(folder, "x.epub", files[:offset] + b"\x55" * 20 + files[offset + 20 :]))


# Plain text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(prose, min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_text_is_cut_at_its_chapter_headings(folder, bodies):
    titled = [(f"CHAPTER {'I' * (n % 3 + 1)}. Of {n}", body) for n, body in enumerate(bodies)]
    text = "\r\n\r\n\r\n".join("\r\n\r\n".join([title, *body]) for title, body in titled)
    assert read(folder, "x.txt", text) == expected(titled)


@settings(max_examples=50, deadline=None)
@given(st.lists(prose, min_size=1, max_size=6))
def test_a_text_without_headings_is_one_chapter_named_after_its_file(folder, paragraphs):
    assert read(folder, "A tale.txt", "\n\n".join(paragraphs)) == [("A tale", "\n\n".join(paragraphs))]


HEADINGS = """
CHAPTER I|Chapter 1: The Start|chapter twenty-one|Chapter XIV. Down the Hole|PART TWO|Prologue|EPILOGUE.
Kapitel 3|Chapitre premier|Capítulo 4 - La noche|Глава 5|Chapter 7 The Fall|第十二章 归来|第3回|序章|Book III
CHAPTER V.\\nIn which they meet
""".strip().replace("\n", "|")
NO_HEADINGS = """
Chapter 5 was dull.|Part of it was lost|Book I read yesterday.|Introduction to the matter|第一次见面的时候，他笑了。
Chapters are long|It was a chapter 1 thing|Act now
""".strip().replace("\n", "|")


@pytest.mark.parametrize("heading", HEADINGS.split("|"))
def test_these_are_headings(folder, heading):
    heading = heading.replace("\\n", "\n")
    found = read(folder, "x.txt", f"Before.\n\n{heading}\n\nAfter it.")
    assert found == [("x", "Before."), (" ".join(heading.split("\n")), f"{heading}\n\nAfter it.")]


@pytest.mark.parametrize("paragraph", NO_HEADINGS.split("|"))
def test_these_are_none(folder, paragraph):
    assert len(read(folder, "x.txt", f"Before.\n\n{paragraph}\n\nAfter.")) == 1


def test_headings_without_text_are_read_with_the_next_chapter_and_none_is_lost(folder):
    text = "Chapter 1\n\nChapter 2\n\nPart One\n\nChapter 1\n\nOnce.\n\nChapter 2\n\nTwice.\n\nEpilogue"
    assert read(folder, "x.txt", text) == [
        ("Chapter 1", "Chapter 1\n\nChapter 2\n\nPart One\n\nChapter 1\n\nOnce."),
        ("Chapter 2", "Chapter 2\n\nTwice.\n\nEpilogue"),
    ]


def test_chinese_headings_need_no_blank_lines(folder):
    text = "第一章 起\n　　很久以前。\n第二章 落\n　　后来。"
    assert [title for title, _ in read(folder, "x.txt", text)] == ["第一章 起", "第二章 落"]


@given(st.lists(st.integers(3, 9), min_size=30, max_size=80), st.integers(55, 90))
def test_wrapped_lines_become_one(lengths, column):
    lines, text = [""], " ".join("x" * length for length in lengths)
    for word in text.split():
        if len(lines[-1]) + len(word) >= column:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    assert unwrap(lines) == text


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("won-", "derful", "wonderful"),  # it stands elsewhere in the book
        ("Won-", "derful,", "Wonderful,"),
        ("well-", "known", "well-known"),
        ("mother-in-", "law", "mother-in-law"),
        ("sea\u00ad", "side", "seaside"),
        ("so -", "derful", "so - derful"),
        ("won--", "derful", "won-- derful"),
    ],
)
def test_words_are_made_whole_at_the_end_of_a_line(folder, before, after, joined):
    start, end = (
        "There was nothing that he liked better than to see",
        "of all that stood in the morning sun, he said.",
    )
    text = f"A wonderful book.\n\n{start} {before}\n{after} {end}"
    assert read(folder, "x.txt", text) == [("x", f"A wonderful book.\n\n{start} {joined} {end}")]


@pytest.mark.parametrize(
    "lines",
    [["Tyger Tyger, burning bright,", "In the forests of the night;"], ["A.", "long " * 30, "x"], ["one line"]],
)
def test_verse_and_one_paragraph_a_line_stay(lines):
    assert unwrap(lines) == "\n".join(lines)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(folder, encoding):
    assert read(folder, "x.txt", "Größe, 你好.".encode(encoding)) == [("x", "Größe, 你好.")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.md", b"a\0b", "NUL"),
        ("x.txt", b" \n\n ", "no text"),
        ("x.md", b"", "no text"),
        ("x.pdf", b"%PDF", r"allowed: \.txt, \.md, .*\.epub, .*Pandoc make an \.epub"),
        ("x.epub", b"Not a zip", "not an EPUB"),
    ],
)
def test_what_cannot_be_read_is_refused(folder, name, content, message):
    with pytest.raises(RequestError, match=message):
        read_book(written(folder, name, content))


def test_a_missing_book_is_named(folder):
    with pytest.raises(RequestError, match=r"there is no file .*absent\.txt"):
        read_book(folder / "absent.txt")


# Markdown


@settings(max_examples=50, deadline=None)
@given(chapters, st.sampled_from(["## {}\n\n", "# {} ##\n\n", "{}\n---\n\n", "{}\n===\n"]))
def test_markdown_is_cut_at_headings_of_two_levels(folder, chapters, style):
    text = "".join(style.format(title) + "\n\n".join(body) + "\n\n" for title, body in chapters)
    assert read(folder, "x.md", text) == expected(chapters)


def test_a_single_first_heading_is_the_title_and_a_header_says_more(folder):
    book = read_book(written(folder, "x.md", "# The Sea\n\n## One\n\nWet.\n\n## Two\n\nWetter.\n"))
    assert (book.title, [chapter.title for chapter in book.chapters]) == ("The Sea", ["One", "Two"])
    assert book.chapters[0].text == "The Sea\n\nOne\n\nWet."
    header = '---\ntitle: "Sky"\nauthor: Ann\nlang: de\n---\n# Eins\n\nText.\n'
    book = read_book(written(folder, "y.md", header))
    assert (book.title, book.author, book.language, len(book.chapters)) == ("Sky", "Ann", "de", 1)


MARKDOWN = [
    ("**bold *in* it** and *it* and _it_, ~~no~~ snake_case", "bold in it and it and it, no snake_case"),
    ("2 * 3 * 4", "2 * 3 * 4"),
    ("see [label](http://a.b) and ![alt](c.png) and `code`[^1]", "see label and alt and code"),
    ("[S1] Hi [pause 1s] <!-- hidden\n\n# no heading --> there", "[S1] Hi [pause 1s] there"),
    ("wrapped\nline", "wrapped line"),
    ("- one\n- two\n  more", "one\ntwo more"),
    ("1. one\n2. two", "1. one\n2. two"),
    ("> quoted\n> on", "quoted on"),
    ("```\n# no heading\n```\nafter", "# no heading\n\nafter"),
    ("### Deep\n\ntext", "Deep\n\ntext"),
    ("a\n\n***\n\nb", "a\n\n[pause 2s]\n\nb"),
    (r"\*not\* C# & 5 \_ 6", "*not* C# & 5 _ 6"),
    ("verse  \nline", "verse\nline"),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "plain"), MARKDOWN)
def test_markdown_becomes_plain_text(folder, marked, plain):
    assert read(folder, "x.md", marked) == [("x", plain)]


@pytest.mark.parametrize("mark", ["[voice: ada]", "[Alice]", "[S1]", "  [narrator]"])
def test_a_mark_alone_in_its_line_stays_so_in_plain_text(tmp_path, mark):
    """The lines around it are joined as those of a wrapped paragraph are."""
    wrapped = "It was a bright cold day in April, and the clocks were\nstriking thirteen, though nobody cared much."
    [(_, text)] = read(tmp_path, "a.txt", f"{wrapped}\n{mark}\n{wrapped}\n")
    joined = wrapped.replace("\n", " ")
    assert text == f"{joined}\n\n{mark.strip()}\n\n{joined}"


@pytest.mark.parametrize("name", ["a.md", "a.txt"])
def test_a_mark_before_the_first_heading_is_the_first_chapters(tmp_path, name):
    heading = "# Chapter 1" if name == "a.md" else "Chapter 1"
    [(title, text)] = read(tmp_path, name, f"[voice: ada]\n\n{heading}\n\nHi there.\n")
    assert (title, text) == ("Chapter 1", "[voice: ada]\n\nChapter 1\n\nHi there.")


def test_a_title_has_no_voice_mark(tmp_path):
    chapters = read(tmp_path, "a.md", "# [voice: ada] One\n\nHi.\n\n# [voice: ada]\n\n[S1]\n\nHo.")
    assert chapters == [("One", "[voice: ada] One\n\nHi."), ("a 2", "[voice: ada]\n\n[S1]\n\nHo.")]
