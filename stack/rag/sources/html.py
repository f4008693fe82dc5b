"""Pages of HTML into sections: a heading, what stands above it, and the text below."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_ENTRY = 7  # the level of a term with its definition: below every heading
_SKIPPED = {"script", "style", "svg", "button", "form", "head", "nav", "img", "input", "select"}
_BLOCKS = {
    "p",
    "div",
    "li",
    "tr",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "table",
    "dd",
    "dl",
    "hr",
    "br",
    "center",
    "section",
}


@dataclass(frozen=True)
class Section:
    """`path`: the headings from the page's title down to its own; `text`: paragraphs, one a line."""

    path: tuple[str, ...]
    text: str


def sections(html: str) -> Iterator[Section]:
    """The sections of a page, in order; those without text of their own are left out."""
    tree = LexborHTMLParser(html)
    walk = _Walk()
    if tree.body is not None:
        walk.children(tree.body)
    walk.close()
    yield from walk.found


class _Walk:
    """Goes through a page once; knows the headings that hold where it is."""

    def __init__(self) -> None:
        self.found: list[Section] = []
        self._path: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._line: list[str] = []

    def children(self, node: LexborNode) -> None:
        for child in node.iter(include_text=True):
            self._node(child)

    def _node(self, node: LexborNode) -> None:
        tag = node.tag
        if tag == "-text":
            self._line.append(node.text_content)
        elif tag in _SKIPPED:
            return
        elif tag in _HEADINGS or tag == "h":  # SQLite's pages mark some sections by a hidden <h>
            self._heading(_HEADINGS.get(tag, 3), _words(node))
        elif tag == "dt" or _is_bold_line(node):
            self._heading(_ENTRY, _words(node))
        elif tag == "pre":
            self._break()
            self._lines += [line.rstrip() for line in node.text().splitlines() if line.strip()]
        else:
            if tag in _BLOCKS:
                self._break()
            self.children(node)
            if tag in _BLOCKS:
                self._break()
            if tag == "dl":
                self._up(_ENTRY)

    def _heading(self, level: int, words: str) -> None:
        self._break()
        if level == _ENTRY and self._path and self._path[-1][0] == _ENTRY and not self._lines:
            words = f"{self._path[-1][1]}, {words}"  # two terms that share a definition
            self._path.pop()
        self._up(level)
        self._path.append((level, words))

    def _up(self, level: int) -> None:
        """Close the section; headings of this level and below hold no longer."""
        self.close()
        self._path = [heading for heading in self._path if heading[0] < level]

    def close(self) -> None:
        """The section ends here."""
        self._break()
        if self._lines and self._path:
            self.found.append(Section(tuple(words for _, words in self._path), "\n".join(self._lines)))
        self._lines = []

    def _break(self) -> None:
        line = " ".join("".join(self._line).split())
        if line:
            self._lines.append(line)
        self._line = []


def _words(node: LexborNode) -> str:
    words = " ".join(node.text(separator=" ").split())
    return re.sub(r"^[\d.]+\s+", "", words)  # the numbering of SQLite's headings


def _is_bold_line(node: LexborNode) -> bool:
    if node.tag != "p":
        return False
    parts = [
        child for child in node.iter(include_text=True) if child.tag != "-text" or (child.text_content or "").strip()
    ]
    return len(parts) == 1 and parts[0].tag == "b"
