"""EPUBs made in memory, and files read as books."""

import io
import zipfile
from html import escape

from moss_tts.books.book import read_book


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder, name, content):
    return [(chapter.title, chapter.text) for chapter in read_book(written(folder, name, content)).chapters]


CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)


def xhtml(body):
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>Not read</title></head><body>{body}</body></html>'
    )


def package(documents, extra_items="", spine_toc="", itemrefs=None):
    items = "".join(
        f'<item id="d{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(documents)
    )
    refs = itemrefs or "".join(f'<itemref idref="d{n}"/>' for n in range(len(documents)))
    return (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Book</dc:title>'
        "<dc:creator>Ann Author</dc:creator><dc:creator>Bo Writer</dc:creator><dc:language>en-GB</dc:language>"
        f"</metadata><manifest>{items}{extra_items}</manifest><spine {spine_toc}>{refs}</spine></package>"
    )


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


NAV_ITEM = '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
NCX_ITEM = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'


def nav(links):
    entries = "".join(f'<li><a href="{href}">{escape(label)}</a></li>' for href, label in links)
    return xhtml(f'<nav epub:type="toc"><ol>{entries}</ol></nav><nav epub:type="landmarks"><ol/></nav>')


def ncx(links):
    points = "".join(
        f'<navPoint><navLabel><text>{escape(label)}</text></navLabel><content src="{href}"/></navPoint>'
        for href, label in links
    )
    return f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{points}</navMap></ncx>'


def epub_of(documents, toc=None, toc_kind="nav", **package_options):
    files = {"META-INF/container.xml": CONTAINER}
    files |= {f"OEBPS/{name}": xhtml(body) for name, body in documents.items()}
    if toc is None:
        files["OEBPS/book.opf"] = package(documents, **package_options)
    elif toc_kind == "nav":
        files["OEBPS/nav.xhtml"] = nav(toc)
        files["OEBPS/book.opf"] = package(documents, NAV_ITEM, **package_options)
    else:
        files["OEBPS/toc.ncx"] = ncx(toc)
        files["OEBPS/book.opf"] = package(documents, NCX_ITEM, 'toc="ncx"', **package_options)
    return files
