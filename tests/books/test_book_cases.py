"""Books as people have them: what is broken but harmless is read, and said; nothing is lost, nothing hangs."""

import json
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_tts.books.book import read_book
from moss_tts.books.chapters import PAUSE
from moss_tts.errors import MossTTSError, RequestError
from support.books import CONTAINER, NAV_ITEM, NCX_ITEM, archive, epub_of, ncx, package, read, written, xhtml
from support.cost import costs_at_most

CASES = Path(__file__).parent / "cases"
EXPECTED = json.loads((CASES / "expected.json").read_text(encoding="utf-8"))
# Seconds that no file of these may take.
MOST_SECONDS = 30.0


def whole_text(book):
    return "\n\n".join(chapter.text for chapter in book.chapters)


def text_of(folder, body):
    """What is read of an EPUB with one document."""
    return whole_text(read_book(written(folder, "x.epub", archive(epub_of({"a.xhtml": body})))))


def book_of(folder, files):
    return read_book(written(folder, "x.epub", archive(files)))


def refused_in_one_sentence(reading):
    """What a reading says if it ends in an error of ours; "" for a book. It takes no time and leaves nothing else."""
    with costs_at_most(MOST_SECONDS):
        try:
            said = "" if reading() else "no book"
        except MossTTSError as error:
            said = str(error)
    assert "\n" not in said
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cases")


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["file"])
def test_a_case_is_read_as_it_should_be(case):
    book = read_book(CASES / case["file"])
    text = whole_text(book)
    assert [part for part in case["has"] if part not in text] == []
    assert [part for part in case["lacks"] if part in text] == []
    if case["titles"] is not None:
        assert [chapter.title for chapter in book.chapters] == case["titles"]


@pytest.mark.parametrize("file", sorted((CASES / "hostile").iterdir()), ids=lambda file: file.name)
def test_a_hostile_file_is_read_or_refused_in_one_sentence(file):
    refused_in_one_sentence(lambda: read_book(file))


# Flaws that are read with a warning

TEXT = "<h1>One</h1><p>Text.</p>"
PLAIN = epub_of({"a.xhtml": TEXT})


def opf(old, new):
    return PLAIN | {"OEBPS/book.opf": PLAIN["OEBPS/book.opf"].replace(old, new)}


ITEM = 'href="a.xhtml"'
FLAWS = {
    "bare ampersand": (opf("The Book", "Salt & Pepper"), "bare &"),
    "unknown entity": (opf("The Book", "The&nosuch;Book"), "&nosuch;"),
    "entity": (opf("The Book", "The&mdash;Book"), None),
    "blanks": (PLAIN | {"META-INF/container.xml": f"\r\n\t{CONTAINER}"}, "blanks before"),
    "cut off": (opf("</package>", ""), "broken XML"),
    "control character": (opf("The Book", "The\x0bBook"), "control characters"),
    "prefix": (PLAIN | {"OEBPS/book.opf": PLAIN["OEBPS/book.opf"].replace("<item ", "<item x:y='z' ")}, None),
    "case": (opf(ITEM, 'href="A.XHTML"'), "OEBPS/a.xhtml, which is in the book, was read instead"),
    "backslash": (opf(ITEM, 'href=".\\a.xhtml"'), None),
    "escapes": (opf(ITEM, 'href="%61.xhtml"'), None),
    "blanks in address": (opf(ITEM, 'href=" a.xhtml "'), None),
    "query": (opf(ITEM, 'href="a.xhtml?x=1"'), None),
    "from the top": (opf(ITEM, 'href="/OEBPS/a.xhtml"'), "was read instead"),
    "id in other case": (opf('idref="d0"', 'idref="D0"'), "the item 'd0' was read instead"),
    "file name as id": (opf('idref="d0"', 'idref="a.xhtml"'), "the item 'd0' was read instead"),
    "no reading order": (opf('<itemref idref="d0"/>', ""), "no reading order"),
    "twice": (opf('<itemref idref="d0"/>', '<itemref idref="d0"/><itemref idref="d0"/>'), None),
    "missing item": (opf('<itemref idref="d0"/>', '<itemref idref="q"/><itemref idref="d0"/>'), "names 'q'"),
    "octets": (opf("application/xhtml+xml", "application/octet-stream"), None),
    "upper type": (opf("application/xhtml+xml", "Text/HTML; charset=utf-8"), None),
    "package elsewhere": (
        PLAIN | {"META-INF/container.xml": CONTAINER.replace("book.opf", "content.opf")},
        "OEBPS/book.opf was read instead",
    ),
}


@pytest.mark.parametrize(("files", "warning"), FLAWS.values(), ids=FLAWS)
def test_a_harmless_flaw_of_the_package_is_read_and_named(folder, files, warning):
    book = book_of(folder, files)
    assert whole_text(book) == "One\n\nText."
    said = " ".join(book.warnings)
    assert (warning in said) if warning else said == ""


ADDRESSES = """
mailto:a@b.c http://[ //cdn.example.com/x https://example.com/a#b javascript:void(0) tel:1 ../../../etc/passwd
/etc/passwd C:\\x file:///etc/passwd data:text/html,x http://a:port/ %zz %00 ? # a.xhtml#nowhere ::: \\\\x\\y http://[::1
""".split()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", ["nav", "ncx"])
def test_no_address_in_the_contents_stops_a_book(folder, address, kind):
    files = epub_of({"a.xhtml": TEXT}, [("a.xhtml", "One"), (address.replace("&", "&amp;"), "Away")], kind)
    book = book_of(folder, files)
    assert [chapter.title for chapter in book.chapters] == ["One"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_item_that_is_nowhere_is_left_out_or_the_book_is_refused(folder, address):
    item = f'<item id="x" href="{address}" media-type="application/xhtml+xml"/>'
    files = epub_of({"a.xhtml": TEXT}) | {"OEBPS/book.opf": package(["a.xhtml"], item)}
    assert whole_text(book_of(folder, files)) == "One\n\nText."
    files["OEBPS/book.opf"] = package(["a.xhtml"], item, "", '<itemref idref="d0"/><itemref idref="x"/>')
    if address in ("/etc/passwd", "../../../etc/passwd", "\\\\x\\y"):
        with pytest.raises(RequestError, match="outside the book"):
            book_of(folder, files)
    else:
        assert whole_text(book_of(folder, files)) == "One\n\nText."


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_in_either_normal_form_and_without_the_flag(folder, form):
    name = unicodedata.normalize(form, "Übung é.xhtml")
    files = epub_of({"a.xhtml": TEXT})
    files["OEBPS/" + name] = files.pop("OEBPS/a.xhtml")
    other = unicodedata.normalize("NFC" if form == "NFD" else "NFD", name)
    for href in (name, other, other.replace(" ", "%20"), other.upper()):
        files["OEBPS/book.opf"] = package([href])
        assert whole_text(book_of(folder, files)) == "One\n\nText."


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ('<meta charset="windows-1251"/>', "cp1251", "Привет, мир"),
        ('<meta charset="iso-8859-1"/>', "cp1252", "“café”"),
        ('<META HTTP-EQUIV="content-type" CONTENT="text/html;charset=Shift_JIS">', "cp932", "吾輩は猫である①"),
        ('<meta charset="gb2312"/>', "gb18030", "你好，世界"),
        ('<meta charset="windows-1252"/>', "utf-8", "“café”"),
        ('<meta charset="utf-16"/>', "utf-8", "“café”"),
        ("", "utf-16", "“café”"),
        ("", "utf-16-le", "“café”"),
        ('<meta charset="klingon"/>', "utf-8", "“café”"),
        ('<meta charset="unicode_escape"/>', "utf-8", "“café”"),
    ],
)
def test_documents_are_decoded_by_what_they_say_or_are(folder, declared, encoding, text):
    page = f"<html><head>{declared}</head><body><p>{text}</p></body></html>"
    files = epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": page.encode(encoding)}
    assert whole_text(book_of(folder, files)) == text


def test_stray_bytes_cost_a_warning_and_no_text(folder):
    page = xhtml("<p>größer “so” X.</p>").encode().replace(b"X", b"\x93\xe9\x94")
    book = book_of(folder, epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": page})
    assert whole_text(book) == "größer “so” “é”."
    assert "stray bytes, 3 of them" in book.warnings[0]


# Tables of contents

LINKS = [("a.xhtml", "One"), ("b.xhtml", "Two")]
TWO = {"a.xhtml": "<p>First.</p>", "b.xhtml": "<p>Second.</p>"}
LIST = "".join(f'<li><a href="{href}">{label}</a></li>' for href, label in LINKS)
NAVS = {
    "role": f'<nav role="doc-toc"><ol>{LIST}</ol></nav>',
    "class": f'<nav class="toc"><ol>{LIST}</ol></nav>',
    "plain": f"<nav><ol>{LIST}</ol></nav>",
    "section": f'<section epub:type="toc"><ol>{LIST}</ol></section>',
    "behind landmarks": '<nav epub:type="landmarks"><ol><li><a href="a.xhtml">Start</a></li></ol></nav>'
    f'<nav id="toc"><ol>{LIST}</ol></nav>',
    "no list": '<nav epub:type="toc"><a href="a.xhtml">One</a> <a href="b.xhtml">Two</a></nav>',
    "unordered": f'<nav epub:type="toc"><ul>{LIST}</ul></nav>',
    "pictures": '<nav epub:type="toc"><ol><li><a href="a.xhtml"><img alt="One"/></a></li>'
    '<li><a href="b.xhtml"><b>T</b>wo</a></li></ol></nav>',
    "unclosed": f'<nav epub:type="toc"><ol>{LIST.replace("</li>", "")}</nav>',
    "other prefix": f'<nav xmlns:o="http://www.idpf.org/2007/ops" o:type="toc"><ol>{LIST}</ol></nav>',
    "undeclared prefix": f'<nav ops:type="toc"><ol>{LIST}</ol></nav>',
    "deep": f'<nav epub:type="toc"><ol><li><span>Book</span><ol><li><span>Part</span><ol><li><span>Half</span>'
    f"<ol>{LIST}</ol></li></ol></li></ol></li></ol></nav>",
}  # fmt: skip


@pytest.mark.parametrize("page", NAVS.values(), ids=NAVS)
def test_the_contents_are_found_however_they_are_marked(folder, page):
    files = epub_of(TWO, LINKS) | {"OEBPS/nav.xhtml": xhtml(page)}
    assert [(chapter.title, chapter.text) for chapter in book_of(folder, files).chapters] == [
        ("One", "First."),
        ("Two", "Second."),
    ]


def test_an_ncx_helps_where_the_navigation_does_not(folder):
    for page in ("", xhtml("<nav epub:type='toc'/>"), xhtml("<p>Soon.</p>"), None):
        files = epub_of(TWO, LINKS) | {"OEBPS/toc.ncx": ncx(LINKS), "OEBPS/nav.xhtml": page}
        files["OEBPS/book.opf"] = package(TWO, NAV_ITEM + NCX_ITEM)
        if page is None:
            del files["OEBPS/nav.xhtml"]
        assert [chapter.title for chapter in book_of(folder, files).chapters] == ["One", "Two"]


def test_an_ncx_that_nothing_lists_is_used(folder):
    files = epub_of(TWO) | {"OEBPS/toc.ncx": ncx(LINKS)}
    assert [chapter.title for chapter in book_of(folder, files).chapters] == ["One", "Two"]


def test_contents_may_lead_into_what_is_not_read(folder):
    page = '<p>First.</p><p><span class="pagenum"><a id="Page_2">[Pg 2]</a></span>Second.</p>'
    files = epub_of({"a.xhtml": page}, [("a.xhtml", "One"), ("a.xhtml#Page_2", "Two")])
    assert [(chapter.title, chapter.text) for chapter in book_of(folder, files).chapters] == [
        ("One", "First."),
        ("Two", "Second."),
    ]


def test_a_book_that_sets_everything_aside_is_read(folder):
    assert whole_text(book_of(folder, epub_of(TWO, itemrefs='<itemref idref="d0" linear="no"/>'))) == "First."


def test_sections_of_a_chapter_are_no_chapters_however_deep(folder):
    section = '<ol><li><a href="a.xhtml#s">Section</a></li></ol>'
    deep = f'<li><a href="a.xhtml">Part</a><ol><li><a href="a.xhtml#c">One</a>{section}</li></ol></li>'
    files = epub_of(TWO | {"a.xhtml": '<p>P.</p><h2 id="c">One</h2><p>First.</p><h3 id="s">S</h3><p>More.</p>'}, LINKS)
    files["OEBPS/nav.xhtml"] = xhtml(f'<nav epub:type="toc"><ol>{deep}<li><a href="b.xhtml">Two</a></li></ol></nav>')
    assert [chapter.title for chapter in book_of(folder, files).chapters] == ["Part", "One", "Two"]


def test_chapters_set_aside_are_read_if_the_contents_list_them_else_named(folder):
    refs = '<itemref idref="d0"/><itemref idref="d1" linear="no"/>'
    assert whole_text(book_of(folder, epub_of(TWO, LINKS, itemrefs=refs))) == "First.\n\nSecond."
    book = book_of(folder, epub_of(TWO, LINKS[:1], itemrefs=refs))
    assert whole_text(book) == "First."
    assert book.left_out == ('OEBPS/b.xhtml, which the book sets aside (linear="no")',)


@pytest.mark.parametrize(
    ("title", "page"),
    [
        ("<h1>Contents</h1>", f"<ul>{LIST}</ul>"),
        (
            "<h2>Inhaltsverzeichnis</h2>",
            '<p><a href="a.xhtml">One</a> .... 3</p><p><a href="b.xhtml">Two</a> .... 9</p>',
        ),
        ('<p class="h">Table of Contents</p>', f"<table><tr><td>{LIST}</td></tr></table>"),
        ("", '<p><a href="a.xhtml">One</a></p><p><a href="b.xhtml">Two</a></p>'),
    ],
)
def test_a_page_of_contents_is_named_and_not_read(folder, title, page):
    book = book_of(folder, epub_of({"t.xhtml": title + page, **TWO}, LINKS))
    assert whole_text(book) == "First.\n\nSecond."
    assert book.left_out == (f"the {'table of contents' if title else 'list of links'} in OEBPS/t.xhtml",)


def test_contents_on_a_page_with_text_leave_the_text(folder):
    text = "<h2>Preface</h2><p>Long <a href='x'>ago</a>.</p>"
    page = f"<h1>The Sea</h1><p>For Ann.</p><h2>Contents</h2><ul>{LIST}</ul>{text}"
    assert read(folder, "x.epub", archive(epub_of({"t.xhtml": page})))[0][1] == (
        "The Sea\n\nFor Ann.\n\nPreface\n\nLong ago."
    )


# What is read of a page

MARKUP = [
    # Notes and page numbers go, superscripts that are text stay.
    ('<p>late<a href="#f1" class="fnanchor">[1]</a> He</p>', "late He"),
    ('<p>late<a href="#f1">*</a> He</p>', "late He"),
    ('<p>late<sup><a href="#a">1</a>, <a href="#b">2</a></sup>.</p>', "late."),
    ('<p>late<sup class="footnote-ref">3</sup>.</p>', "late."),
    ('<p>late<span style="vertical-align:super"><a href="n.xhtml#a">iv</a></span>.</p>', "late."),
    ('<p>late.<a role="doc-noteref" href="#n">†</a></p><ol role="doc-endnotes"><li>Aside</li></ol>', "late."),
    ('<p>late.</p><div class="footnote"><p>Aside</p></div><p role="doc-footnote">Aside</p>', "late."),
    (
        '<p>x<sup>2</sup>, the 1<sup>st</sup>, M<sup>me</sup>, the 2<sup><a href="#c">nd</a></sup></p>',
        "x2, the 1st, Mme, the 2nd",
    ),
    (
        "<p>It was late.<sup>1</sup> He slept,<sup>12</sup> she “too”<sup>3</sup>.</p>",
        "It was late. He slept, she “too”.",
    ),
    ("<p>E=mc<sup>2</sup>, (a)<sup>2</sup>, the 1<sup>st</sup>, C<sup>*</sup></p>", "E=mc2, (a)2, the 1st, C*"),
    ("<p>Words<sup>*</sup> and <b>more</b><sup>†</sup>.</p>", "Words and more."),
    ('<p>A text.<a href="#f1" id="r1">1</a> “So”<a href="n.html#f2">2</a></p>', "A text. “So”"),
    (
        '<p>See p.<a href="#p12">12</a>, chapter <a href="#c2">2</a> and (<a href="#x">3</a>)</p>',
        "See p.12, chapter 2 and (3)",
    ),
    ('<p>See <a href="#n12">note 12</a>, <a href="c.html">the whale</a>.</p>', "See note 12, the whale."),
    (
        '<p>a<span role="doc-pagebreak">23</span>b <span class="pageno">xii</span>c<i class="page_no">p. 4</i>d</p>',
        "ab cd",
    ),
    ('<p>a<a class="x-ebookmaker-pageno" title="5">[5]</a>b</p>', "ab"),
    ('<div class="page"><p>Words of a page</p></div>', "Words of a page"),
    ('<p class="pagenum">This is a sentence of page 3.</p>', "This is a sentence of page 3."),
    ('<p>a<a id="page_23">23</a>b<span id="Page_xii">[xii]</span>c <a id="p7">8</a></p>', "abc 8"),
    ('<p>late<span class="super"><a href="#n">4</a></span>.</p>', "late."),
    # Lines of verse.
    ("<p><span>The rose is red,</span><span>the violet</span></p>", "The rose is red,\nthe violet"),
    (
        '<p><span class="verse-line">The rose</span> <span class="verse-line">the violet</span></p>',
        "The rose\nthe violet",
    ),
    ("<pre>one\n  two</pre>", "one\ntwo"),
    ("<p>e.<i>g.</i> this</p>", "e.g. this"),
    # Large initials.
    ('<p><span class="dropcap">T</span>\n he sun</p>', "The sun"),
    ('<p><span class="drop-cap">A</span> man</p>', "A man"),
    ('<p class="dropcap">The whole paragraph.</p>', "The whole paragraph."),
    ('<p><b class="initial">“T</b><span class="sc">HE SUN</span> rose</p>', "“THE SUN rose"),
    ('<div class="dropcap">T</div><p>he sun rose.</p>', "The sun rose."),
    ('<p><span class="dropcap"><img alt="T" src="t.png"/></span>he sun</p>', "The sun"),
    # Pictures that are words, and those that are not.
    ('<h2>Part <img alt="Four" src="x"/></h2><p>T.</p>', "Part Four\n\nT."),
    ('<p class="chapter-title"><img alt="The Lost Island"/></p><p>T.</p>', "The Lost Island\n\nT."),
    ("<h1><svg><title>The Isle</title></svg></h1><p>T</p>", "The Isle\n\nT"),
    ('<p><img alt="Map of the isle"/></p><p>T <img alt="img_01"/><img alt="a.png"/><img alt="Figure"/>.</p>', "T ."),
    ('<p><img alt="Once upon a"/> time there</p>', "Once upon a time there"),
    # Formulas.
    ("<p>Let <math><mi>x</mi><mo>=</mo><mn>2</mn></math>.</p>", "Let x = 2."),
    ('<p>Let <m:math xmlns:m="http://www.w3.org/1998/Math/MathML" alttext="y"><m:mi>q</m:mi></m:math></p>', "Let y"),
    ('<p><math alttext="\\frac{1}{2}"><mfrac><mn>1</mn><mn>2</mn></mfrac></math> a</p>', "1 2 a"),
    ('<p>a<math><semantics><mi>y</mi><annotation encoding="TeX">\\y</annotation></semantics></math>b</p>', "a y b"),
    # The side of a switch that is taken.
    ("<epub:switch><epub:case><p>C1.</p></epub:case><epub:case><p>C2.</p></epub:case></epub:switch>", "C1."),
    ("<epub:switch><epub:default>D.</epub:default><epub:case>C.</epub:case></epub:switch>", "D."),
    # Scene breaks.
    ("<p>A.</p><hr/><p>B.</p>", f"A.\n\n{PAUSE}\n\nB."),
    ("<hr/><p>* * *</p><p>A.</p><p>#</p><hr/><p>⁂</p><p>B.</p><p>***</p>", f"A.\n\n{PAUSE}\n\nB."),
    # Nothing that is open swallows the rest.
    ("<p>A</body></html><p>after", "A\n\nafter"),
    ("<title>x<p>Kept", "Kept"),
    ("<style>p {}<p>Kept", "Kept"),
    ("<script>if (a) {}<p>Kept", "Kept"),
    ("<p>A<!-- open <p>Kept</p>", "A open\n\nKept"),
    ("<p>A<!-->B<!-- c -->C</p>", "ABC"),
    ("<p>A<!-- open <p>Kept</p><!-- c -->", "A open\n\nKept"),
    ("<p>A<? open <b>Kept</b> <?x y?></p>", "AKept"),
    ("<p>A<!--[if !mso]><!-->B<!--<![endif]-->C</p>", "ABC"),
    ("<p>1<audio controls>none<p>2</p>", "1none\n\n2"),
    ('<div hidden="hidden"><p>H</p><p>T</p>', "H\n\nT"),
    ('<p>late<a epub:type="noteref" href="#n">1<p>Text <b>y</p>', "late1\n\nText y"),
    ('<p>x<span epub:type="pagebreak">He slept for long.</p><p>T</p>', "xHe slept for long.\n\nT"),
    ('<aside epub:type="footnote"><p>N</p></div><p>T</p>', "N\n\nT"),
    # Stray marks.
    ("<p>a < b & c > d &nosuch; AT&T &copy; 5</p>", "a < b & c > d &nosuch; AT&T © 5"),
    ('<p class="x>text</p><p title="a">more</p>', "text\n\nmore"),
    ("<p>a <b and c</p>", "a <b and c"),
    ("<p>Ann <ann@example.com>, <http://x.y/z> <3<br></p>", "Ann <ann@example.com>, <http://x.y/z> <3"),
    ("<p>a<![if x]>b<![endif]><br></p>", "ab"),
    ("<p>x<script/>y<a id='q'/>z<br></p><i/>w", "xyz\n\nw"),
    ("<p>x<?xml:namespace prefix = o /><o:p></o:p>y</p>", "x\n\ny"),
    ("<p>&#150;a&#8217;b&#0;&#x1F;\x0bc</p>", "–a’bc"),
    ("<p>one<![CDATA[ <b> & ]]>two</p>", "one <b> & two"),
    ('<p>&nbsp;&eacute;&hellip;<img alt="x > y" src="a"/></p>', "é…"),
    ("<dl><dt>T</dt><dd>D</dd></dl><fieldset><legend>L</legend>x</fieldset>", "T\n\nD\n\nL\n\nx"),
]


@pytest.mark.parametrize(("body", "text"), MARKUP)
def test_a_page_is_read_as_a_person_would(folder, body, text):
    assert text_of(folder, body) == text


@pytest.mark.parametrize(
    "document",
    [
        '<x:html xmlns:x="http://www.w3.org/1999/xhtml"><x:head><x:title>No</x:title></x:head>'
        "<x:body><x:p>A<x:br/>b</x:p></x:body></x:html>",
        "<h:html><h:head><h:style>p {}</h:style></h:head><h:body><h:p>A<h:br/>b</h:p></h:body>",
        '<!DOCTYPE html [<!ENTITY a "A"> <!ENTITY % x PUBLIC "-//W3C" "http://x.y/z.ent"> %x;]>'
        "<html><body><p>&a;<br/>b</p></body></html>",
        "<!DOCTYPE html SYSTEM 'about:legacy-compat'><html><body><p>A<br>b</body></html>",
        "<p>A<br/>b",
        "<?php echo '>' ?><html><body><p>A<br/>b</p></body></html>",
    ],
)
def test_documents_of_every_form_are_read(folder, document):
    files = epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": document}
    assert whole_text(book_of(folder, files)) == "A\nb"


def test_what_is_left_out_is_counted(folder):
    body = '<p>a<sup><a href="#n">1</a></sup> b<sup><a href="#m">2</a></sup></p><p hidden="">no</p>' + (
        '<span class="pagenum">[Pg 2]</span><p><ruby>漢<rt>かん</rt></ruby><img alt="A long sea"/></p>'
    )
    book = book_of(folder, epub_of({"a.xhtml": body}))
    assert book.left_out == (
        "2 note marks", "1 hidden passage", "1 page number", "1 reading aid", "1 described picture",
    )  # fmt: skip


def test_the_same_flaw_of_many_documents_is_one_warning(folder):
    book = book_of(folder, epub_of({f"{n}.xhtml": f"<p>Text {n}<br></p>" for n in range(9)}))
    assert len(book.warnings) == 1
    assert book.warnings[0].startswith("OEBPS/0.xhtml, OEBPS/1.xhtml, OEBPS/2.xhtml and 6 more: is not well formed")


@pytest.mark.parametrize(
    "subset",
    [
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;">',
        f'<!ENTITY a "{"ha" * 5000}">',
        '<!ENTITY b "&b;">',
    ],
)
def test_entities_that_expand_are_refused(folder, subset):
    body = f"<!DOCTYPE html [{subset}]><html><body><p>{'&a;&b;' * 300}</p></body></html>"
    with pytest.raises(RequestError, match="declares entities"):
        book_of(folder, epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": body})


def test_files_and_addresses_behind_entities_are_not_opened(folder):
    body = '<!DOCTYPE html [<!ENTITY f SYSTEM "file:///etc/hostname">]><html><body><p>A &f; b</p></body></html>'
    assert (
        text_of(folder, "")
        if False
        else whole_text(book_of(folder, epub_of({"a.xhtml": ""}) | {"OEBPS/a.xhtml": body})) == "A &f; b"
    )


HOSTILE_PAGES = {
    "open tags": "<a <b <c " * 20000,
    "names": "".join(f"<a{n} " for n in range(30000)),
    "attributes": "<p " + " ".join(f"a{n}" for n in range(30000)) + ">x</p>",
    "deep": "<div>" * 5000 + "x",
    "deep text": "<span class='x'>" * 1500 + "y" * 1000000,
    "comments": "<!--" * 100000,
    "instructions": "<?" * 100000,
    "comments, one ended": "<!--" * 300000 + "-->",
    "instructions, one ended": "<?" * 300000 + "</?>",
    "scripts": "<script>" * 50000,
    "quotes": '<p a="' * 50000,
    "notes": "<aside epub:type='footnote'>" * 1000 + "z" * 100000,
    "pictures": "<br/><img alt='x y'/>" * 10000,
    "cases": "<epub:switch>" + "<epub:case>x</epub:case>" * 10000 + "</epub:switch>",
    "formulas": "<math>" * 1000 + "<mi>x</mi>",
}


@pytest.mark.parametrize("page", HOSTILE_PAGES.values(), ids=HOSTILE_PAGES)
def test_hostile_pages_take_no_time(folder, page):
    refused_in_one_sentence(lambda: text_of(folder, page))


MEMBERS = ["META-INF/container.xml", "OEBPS/book.opf", "OEBPS/nav.xhtml", "OEBPS/toc.ncx", "OEBPS/a.xhtml"]


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(MEMBERS), st.integers(1, 6))
def test_no_damage_to_a_member_ends_in_anything_but_a_book_or_a_refusal(folder, chance, member, blows):
    body = '<h1 id="c">One</h1><p>a<sup><a href="#n">1</a></sup> &eacute;<math><mi>x</mi></math><img alt="T"/></p>'
    files = epub_of({"a.xhtml": body}, [("a.xhtml#c", "One")]) | {"OEBPS/toc.ncx": ncx([("a.xhtml", "One")])}
    files["OEBPS/book.opf"] = package(["a.xhtml"], NAV_ITEM + NCX_ITEM, 'toc="ncx"')
    content = bytearray(files[member].encode())
    for _ in range(blows):
        at, length = chance.randrange(len(content) + 1), chance.choice([0, 1, 3, 40])
        content[at : at + length] = chance.choice(
            [b"", b"<", b">", b'"', b"&", b"\xff", b"\0", b"<!--", b"]]>", b"&x;", b"</p>"]
        )
    files[member] = bytes(content)
    refused_in_one_sentence(lambda: book_of(folder, files))


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_the_archive_ends_in_anything_but_a_book_or_a_refusal(folder, seed):
    chance = random.Random(seed)
    content = bytearray(archive(epub_of(TWO, LINKS)))
    for _ in range(3):
        content[chance.randrange(len(content))] = chance.randrange(256)
    refused_in_one_sentence(lambda: read_book(written(folder, "x.epub", bytes(content))))


# Plain text

LONE_NUMBERS = [
    ["I", "II", "III"],
    ["I.", "II."],
    ["1.", "2."],
    ["- 1 -", "- 2 -"],
    ["— I —", "— II —"],
    ["[1]", "[2]"],
    ["i", "ii"],
    ["I. The Start", "II. The End"],
    ["1. The Start", "2. The End"],
    ["I. THE START.", "II. THE END."],
    ["1: Home", "2: Away"],
    ["1 The Start", "2 The End"],
    ["I.--THE START.", "II.--THE END."],
    ["ONE", "TWO"],
    ["Eins.", "Zwei."],
    ["一", "二"],
    ["1", "2", "4", "5"],
    ["Letter 1", "Letter 2"],
    ["STAVE I", "STAVE II"],
    ["Chap. 1", "Chap. 2"],
    ["Chapter the First", "Chapter the Second"],
    ["Scene 1", "Scene 2"],
    ["Act I", "Act II"],
    ["Chapter Sixty-One", "Chapter Sixty-Two"],
]


@pytest.mark.parametrize(
    "titles",
    [
        ["Erstes Kapitel", "Zweites Kapitel."], ["ZWEITER TEIL", "Dritter Akt"],
        ["CAPÍTULO PRIMERO", "Capítulo segundo"],
        ["Première partie", "Livre troisième"], ["Capitolo secondo", "PARTE TERZA"], ["제1장 시작", "제 2 장"],
        ["First Part", "Second Part"], ["ЧАСТЬ ПЕРВАЯ", "Часть вторая"],
    ],
)  # fmt: skip
def test_ordinals_number_chapters_in_each_language(folder, titles):
    text = "\n\n".join(f"{title}\n\nIt was cold." for title in titles)
    assert [chapter.title for chapter in read_book(written(folder, "x.txt", text)).chapters] == titles


@pytest.mark.parametrize("titles", LONE_NUMBERS, ids=lambda titles: titles[0])
def test_lines_that_number_chapters_begin_them(folder, titles):
    text = "\n\n".join(f"{title}\n\nIt was cold in {at}." for at, title in enumerate(titles))
    assert [title for title, _ in read(folder, "x.txt", text)] == titles


def test_lists_in_a_book_of_named_chapters_are_text(folder):
    text = (
        "Chapter 1\n\nIt was cold.\n\n1. Buy milk\n\nWarm.\n\n2. Sell eggs\n\nIt was good.\n\nChapter 2\n\nIt rained."
    )
    assert [title for title, _ in read(folder, "x.txt", text)] == ["Chapter 1", "Chapter 2"]


def test_lines_under_titles_are_no_scene_breaks(folder):
    assert read(folder, "x.txt", "Chapter 1\n=========\n\nCold.\n\nOn rain\n-------\n\nWarm.")[0] == (
        "Chapter 1",
        "Chapter 1\n\nCold.\n\nOn rain\n\nWarm.",
    )


def test_numbers_begin_again_in_each_part(folder):
    text = "\n\n".join(f"{title}\n\nIt was cold." for title in ["Part One", "1", "2", "Part Two", "1", "2", "3"])
    assert [title for title, _ in read(folder, "x.txt", text)] == ["Part One", "1", "2", "Part Two", "1", "2", "3"]


@pytest.mark.parametrize(
    "text",
    [
        "It was the number\n\n7\n\nthat he saw.",
        "I\n\nam here.",
        "He paid\n\n1\n\nand then\n\n2\n\nand no more.",
        "1984\n\nIt was cold.\n\n1985\n\nIt was warm.",
        "1. Buy milk.\n\n2. Sell eggs.",
        "1. Buy milk\n\n2. Sell eggs\n\n3. Rest\n\nSo it went.",
        "mix\n\nA word, not a number.\n\nlid",
    ],
)
def test_other_lone_numbers_are_text(folder, text):
    assert [title for title, _ in read(folder, "x.txt", text)] == ["x"]


def test_form_feeds_part_pages_and_their_numbers_go(folder):
    path = written(folder, "x.txt", "Page one text.\n\n12\n\fPage two text.\n\n- 13 -\n\f\fChapter 1\n\nIt began.\n")
    book = read_book(path)
    assert [chapter.title for chapter in book.chapters] == ["x", "Chapter 1"]
    assert book.chapters[0].text == "Page one text.\n\nPage two text."
    assert book.left_out == ("2 page numbers",)


def test_indents_begin_paragraphs_but_not_lines_of_verse(folder):
    prose = "   It was a cold day in the town\nand nobody spoke.\n   “Well,” he said.\n   Then it rained."
    assert read(folder, "x.txt", prose)[0][1].split("\n\n") == [
        "It was a cold day in the town\nand nobody spoke.", "“Well,” he said.", "Then it rained.",
    ]  # fmt: skip
    verse = "Tyger Tyger, burning bright,\n  In the forests of the night;\nWhat immortal hand or eye,\n  Could frame"
    assert "\n\n" not in read(folder, "x.txt", verse)[0][1]


def test_a_number_right_above_its_text_is_a_heading(folder):
    assert [title for title, _ in read(folder, "x.txt", "1\nIt was cold.\n\n2\nIt was warm.")] == ["1", "2"]


def test_a_heading_right_above_its_text_is_one(folder):
    text = "Chapter 1\n" + "It was a cold and very windy day in the old town.\n" * 4
    assert [title for title, _ in read(folder, "x.txt", f"Before.\n\n{text}")] == ["x", "Chapter 1"]
    contents = "\n".join(f"Chapter {n}. On {n}" for n in range(1, 6))
    assert len(read(folder, "x.txt", f"{contents}\n\nIt was cold.")) == 1


@pytest.mark.parametrize("breaks", ["***", "* * *", "#", "⁂", "---", "~", "• • •", "="])
def test_a_scene_break_is_a_pause(folder, breaks):
    assert read(folder, "x.txt", f"Cold.\n{breaks}\nWarm.")[0][1] == f"Cold.\n\n{PAUSE}\n\nWarm."


GUTENBERG = """The Project Gutenberg eBook of Tales

Title: Tales
Author: Ann Author
Language: English

{start}

Produced by A. Person and the
Online Team.

CHAPTER I.

It was _very_ cold,[Pg 3] she
said, _not
warm_. [Illustration: A cat] snake_case stays_ here_

{end}

Licence terms of use.
"""


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THE PROJECT GUTENBERG EBOOK TALES ***", "*** END OF THE PROJECT GUTENBERG EBOOK TALES ***"),
        ("***START OF THIS PROJECT GUTENBERG EBOOK TALES***", "End of the Project Gutenberg EBook of Tales, by Ann"),
        ("*** START OF THIS PROJECT GUTENBERG\nEBOOK TALES ***", "End of Project Gutenberg's Tales, by Ann"),
        ("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "End of this Project Gutenberg Etext"),
    ],
)
def test_what_project_gutenberg_adds_is_named_and_not_read(folder, start, end):
    book = read_book(written(folder, "x.txt", GUTENBERG.format(start=start, end=end)))
    assert (book.title, book.author, book.language) == ("Tales", "Ann Author", "English")
    assert [chapter.title for chapter in book.chapters] == ["CHAPTER I."]
    assert "It was very cold, she\nsaid, not\nwarm.  snake_case stays_ here_" in book.chapters[0].text
    assert not {"Gutenberg", "Licence", "Produced"} & set(book.chapters[0].text.replace("'", " ").split())
    assert book.left_out == (
        "Project Gutenberg's header", "Project Gutenberg's licence", "the names of those that prepared the file",
        "1 described picture", "1 page number",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Größe und Übermut: „Ja“, sagte der Müller – schön."),
        ("cp1252", "It’s “fine” — he said. café naïve"),
        ("cp1252", "Déjà vu à la café."),
        ("cp1252", "Vær så god."),
        ("cp1252", "Où est-il ?"),
        ("cp1251", "Он сказал: «Привет», и ушёл домой."),
        ("cp932", "吾輩は猫である。名前はまだ無い。"),
        ("gb18030", "他说：你好，世界。我们走吧。"),
        ("big5", "他說：你好，世界。我們走吧。"),
        ("cp949", "안녕하세요, 세계. 우리는 갔다."),
        ("utf-16-le", "Größe und Übermut"),
    ],
)
@pytest.mark.parametrize("suffix", ["txt", "md"])
def test_the_encoding_of_a_text_is_guessed_and_said(folder, encoding, text, suffix):
    book = read_book(written(folder, f"x.{suffix}", text.encode(encoding)))
    assert whole_text(book) == text
    assert encoding == "utf-16-le" or "which is a guess" in book.warnings[0]


# Pages

PAGE = """<!DOCTYPE html>
<html lang="en-GB"><head><title>The
Book</title><meta name="author" content="A. Writer"><style>p { color: red }</style><script>no()</script></head>
<body><pre>*** START OF THE PROJECT GUTENBERG EBOOK THE BOOK ***</pre>
<h1>The Book</h1><h2>Contents</h2><p><a href="#a">One</a></p><p><a href="#b">Two</a></p>
<h2 id="a">One</h2><p>It was caf\u00e9 time.<br>And so on<p>Next &amp; last.<script>no()</script>
<h2 id="b">Two</h2><div>It was <b>warm</b>.</div>
<p>*** END OF THE PROJECT GUTENBERG EBOOK THE BOOK ***</p><p>General Terms of Use</p></body></html>"""


@pytest.mark.parametrize("suffix", ["html", "htm", "xhtml"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_a_page_is_a_book(folder, suffix, encoding):
    content = PAGE.replace("<head>", f'<head><meta charset="{encoding}">') if encoding == "cp1252" else PAGE
    book = read_book(written(folder, f"x.{suffix}", content.encode(encoding)))
    assert (book.title, book.author, book.language) == ("The Book", "A. Writer", "en-GB")
    assert [(chapter.title, chapter.text) for chapter in book.chapters] == [
        ("One", "The Book\n\nOne\n\nIt was caf\u00e9 time.\nAnd so on\n\nNext & last."),
        ("Two", "Two\n\nIt was warm."),
    ]
    assert {"Project Gutenberg's header", "Project Gutenberg's licence", "the table of contents"} <= {*book.left_out}


def test_pages_that_are_no_books_are_refused(folder):
    with pytest.raises(RequestError, match="has no text in it"):
        read_book(written(folder, "x.html", b"<html><body><img src=x></body></html>"))
    with pytest.raises(RequestError, match="allowed in a book: 1000000"):
        read_book(written(folder, "x.html", b"<b>" * 1_000_001))


# Markdown


def test_a_header_of_markdown_is_no_text(folder):
    for header in ("---\ntitle: Tales\nauthor: Ann\n---\n", "+++\ntitle = \"Tales\"\nauthor = 'Ann'\n+++\n"):
        book = read_book(written(folder, "x.md", f"{header}\n# One\n\nText.".encode()))
        assert (book.title, book.author, whole_text(book)) == ("Tales", "Ann", "One\n\nText.")


MARKDOWN = [
    ("2*3*4 and *it* and un*frig*able", "2*3*4 and it and unfrigable"),
    ("see <https://example.com/a_b_c> or <ann@example.com>", "see https://example.com/a_b_c or ann@example.com"),
    ("Tom &amp; Jerry &mdash; caf&eacute; &#8212; AT&T", "Tom & Jerry — café — AT&T"),
    ("[ref][] and [t][1] and [ref] and [none]\n\n[ref]: /u\n[1]: <b c> 'd'", "ref and t and ref and [none]"),
    ("x[^1] y[^n] z^[inline]\n\n[^1]: Note one.\n\n    more\n[^n]: Two", "x y z"),
    ("a[^lost] b", "a b"),
    ("| a | b |\n|---|--:|\n| 1 | 2 |", "a b\n\n1 2"),
    ("T [span]{.small} and `c`{=html}\n\n{.cls}\npara {: .k}\n\n::: note\nin\n:::", "T span and c\n\npara\n\nin"),
    ("<div>\n\nIn **b**\n\n</div>\n<script>x</script>\n<style>\np {}\n</style>", "In b"),
    ("a<br>b<br/>c <b>d</b> <img alt='e f'>", "a\nb\nc d"),
    ("- [ ] do\n- [x] done", "do\ndone"),
    ("- one\n  - deep\n- two", "one\ndeep\ntwo"),
    ("Term\n: Meaning", "Term\n\nMeaning"),
    ("    code\n    lines", "code\nlines"),
    ("a <!-- b", "a b"),
    ("![x](y.png){width=50%} and [l](u){.c target=_blank}", "x and l"),
    ("a\n\n* * *\n\n---\n\nb\n\n***", f"a\n\n{PAUSE}\n\nb"),
    ("![A cat](c.png) and ![](d.png)", "A cat and"),
    ("[span]{.y}", "span"),
    ("[TOC]\n\na\n\n[[_TOC_]]\n\n\\newpage\n\nb", "a\n\nb"),
    ("> [!NOTE]\n> Beware\n\n> > [!tip]- of it", "Beware\n\nof it"),
    ("[[Page|The page]], [[Page]], ==so== %%not this%% H~2~O x^n^", "The page, Page, so H2O xn"),
    ("`a==b==c` and `[[x]]`, 10^6^, a == b == c, 10~20~30", "a==b==c and [[x]], 10^6^, a == b == c, 10~20~30"),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "plain"), MARKDOWN)
def test_markdown_is_read_as_it_is_shown(folder, marked, plain):
    assert read(folder, "x.md", marked) == [("x", plain)]


def test_contents_are_named_and_not_read(folder):
    links = "- [One](#one)\n- [Two](#two)"
    text = f"# Sea\n\n## Contents\n\n{links}\n\n## One\n\nA.\n\n## Two\n\nB."
    book = read_book(written(folder, "x.md", text))
    assert (whole_text(book), book.left_out) == ("Sea\n\nOne\n\nA.\n\nTwo\n\nB.", ("the table of contents",))
    assert read(folder, "x.md", links) == [("x", "One\nTwo")]


def test_headings_lose_their_attributes(folder):
    text = "# One {#one .unnumbered}\n\nA.\n\nTwo\nlines {.x}\n===\n\nB.\n\n## C# ##\n\nC."
    assert [title for title, _ in read(folder, "x.md", text)] == ["One", "Two lines", "C#"]


@pytest.mark.parametrize(
    "marks",
    ["[", "![", "[^", "^[", "<!--", "> ", "- ", "*a ", "_*", "`", "<a ", "[a]{", "[a](b", "&", "#", "|", "{.a "],
)
def test_hostile_markdown_takes_no_time(folder, marks):
    refused_in_one_sentence(lambda: read(folder, "x.md", marks * 20000))
