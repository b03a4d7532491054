"""Whether links lead somewhere: links.py [BOOK].

In the pages of the repository, by their text: to files and to headings. docs/SUMMARY.md, which the book is made of, has every
page of docs/, each line of it a page; the table of the README has them, too. In the directory BOOK, if one is given, by its
HTML: every link and picture is a file of the book, every anchor an id of it.

It needs no server and no network; addresses of elsewhere are not asked.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import page as pages

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`]+`")


def anchors(headings):
    """Of the headings of a page, in their order; one that comes again is numbered."""
    seen = {}
    for heading in headings:
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen[name] = seen.get(name, -1) + 1
        yield f"{name}-{seen[name]}" if seen[name] else name


def headings_of(path, cache={}):
    if path not in cache:
        cache[path] = set(anchors(heading for _, heading in pages.read(path).headings))
    return cache[path]


def broken_links(path, prose):
    """(line, what) for each link of the text."""
    for number, line in prose:
        for link in LINK.findall(CODE.sub("", line)):
            if "://" in link:
                continue
            file, _, place = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.exists():
                yield number, f"{link}: there is no such file"
            elif place and target.suffix == ".md" and place not in headings_of(target):
                yield number, f"{link}: there is no such heading"


def unlisted(root):
    """Pages of docs/ that docs/SUMMARY.md or the README's table lacks, and lines of the summary that are of no page, or of one
    that another line has."""
    docs = {path.resolve() for path in (root / "docs").glob("*.md")} - {(root / "docs/SUMMARY.md").resolve()}
    for file in ("docs/SUMMARY.md", "README.md"):
        path = root / file
        listed = [(path.parent / link.partition("#")[0]).resolve() for link in LINK.findall(path.read_text()) if "://" not in link]
        for page in sorted(docs - set(listed)):
            yield f"{file}: docs/{page.name} is not in it"
        if file == "docs/SUMMARY.md":
            for page in sorted({page for page in listed if not page.is_file() or listed.count(page) > 1}):
                yield f"{file}: {page.name} {'is in it twice' if page.is_file() else 'is not there'}"


class Html(HTMLParser):
    """Of one page of the book: what it names, and what can be named in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        self.links += [(self.getpos()[0], attributes[name]) for name in ("href", "src") if attributes.get(name)]


def broken_in_book(book):
    """(page, line, what) for each link and picture that isn't in the book."""
    book = book.resolve()
    read = {path: Html(path) for path in sorted(book.rglob("*.html"))}
    for path, html in read.items():
        for line, link in html.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_relative_to(book) or not target.is_file():
                yield path, line, f"{link}: there is no such file in the book"
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].ids:
                yield path, line, f"{link}: there is no such place"


def main(book=None):
    passed = failed = 0
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "tests/INHERITED.md"]):
        broken = list(broken_links(path, pages.read(path).prose))
        passed, failed = passed + (not broken), failed + bool(broken)
        for line, what in broken:
            print(f"FAILED  book: {path.relative_to(ROOT)}:{line}: {what}")
    wrong = list(unlisted(ROOT))
    passed, failed = passed + (not wrong), failed + bool(wrong)
    for what in wrong:
        print(f"FAILED  book: {what}")
    if book:
        book = Path(book)
        broken = list(broken_in_book(book))
        pages_made = {path for path in book.rglob("*.html")}
        bad = {path for path, _, _ in broken}
        passed, failed = passed + len(pages_made - bad), failed + len(bad)
        for path, line, what in broken:
            print(f"FAILED  book: {path.relative_to(book.resolve())}:{line}: {what}")
    print(f"book: {passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
