"""What a reader gets from a PDF: its text by page, its metadata, its outline."""

import re

import pypdfium2


def pages(path):
    """The text of every page, white space collapsed."""
    with pypdfium2.PdfDocument(path) as document:
        return [re.sub(r"\s+", " ", page.get_textpage().get_text_bounded()) for page in document]


def text(path):
    return " ".join(pages(path))


def metadata(path):
    with pypdfium2.PdfDocument(path) as document:
        return document.get_metadata_dict()


def outline(path):
    """(level, title, page) of every entry."""
    with pypdfium2.PdfDocument(path) as document:
        return [(entry.level, entry.get_title(), entry.get_dest().get_index()) for entry in document.get_toc()]


def outside(path, margin):
    """Every piece of text that sticks out of the margins: (page, text)."""
    found = []
    with pypdfium2.PdfDocument(path) as document:
        for number, page in enumerate(document, start=1):
            width, height = page.get_size()
            lines = page.get_textpage()
            for k in range(lines.count_rects()):
                left, bottom, right, top = lines.get_rect(k)
                if left < margin - 1 or right > width - margin + 1 or bottom < 20 or top > height - 20:
                    found.append((number, lines.get_text_bounded(left, bottom, right, top)))
    return found
