"""What links.py must find, in small trees of its own."""

import tempfile
import unittest
from pathlib import Path

import links


class Tree(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory(prefix="tq_links.")
        self.root = Path(self.place.name).resolve()

    def tearDown(self):
        self.place.cleanup()

    def write(self, **files):
        """By path, with __ for a slash and _ for the dot before the ending."""
        for name, text in files.items():
            path = self.root / ".".join(name.replace("__", "/").rsplit("_", 1))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def test_links_of_a_page(self):
        self.write(README_md="# Two words\n\n# Two words\n", docs__a_md="")
        page = self.root / "docs/a.md"
        prose = [
            (1, "[well](../README.md#two-words), [again](../README.md#two-words-1), [elsewhere](https://example.org/no.md)"),
            (2, "[gone](b.md)"),
            (3, "[not said](../README.md#three-words), `[code](c.md)`"),
        ]
        self.assertEqual(
            list(links.broken_links(page, prose)),
            [(2, "b.md: there is no such file"), (3, "../README.md#three-words: there is no such heading")],
        )

    def test_pages_are_listed(self):
        self.write(
            README_md="[a](docs/a.md)", docs__a_md="", docs__b_md="",
            docs__SUMMARY_md="[x](../README.md)\n- [a](a.md)\n- [again](a.md)\n- [c](c.md)",
        )  # fmt: skip
        self.assertEqual(
            list(links.unlisted(self.root)),
            [
                "docs/SUMMARY.md: docs/b.md is not in it",
                "docs/SUMMARY.md: a.md is in it twice",
                "docs/SUMMARY.md: c.md is not there",
                "README.md: docs/b.md is not in it",
            ],
        )

    def test_links_of_the_book(self):
        self.write(
            index_html='<a href="docs/a.html#here">well</a><a href="docs/a.html#there">no such place</a><img src="no.svg">',
            docs__a_html='<h2 id="here">x</h2>\n<a href="../index.html">well</a><a href="#here">well</a><a href="../../x">out</a>',
        )
        self.assertEqual(
            [(path.name, line, what.split(":")[0]) for path, line, what in links.broken_in_book(self.root)],
            [("a.html", 2, "../../x"), ("index.html", 1, "docs/a.html#there"), ("index.html", 1, "no.svg")],
        )


if __name__ == "__main__":
    unittest.main()
