"""Reads XML from a server: bounded in depth and elements, without document types.

The names of elements lose their namespaces.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

MAX_DEPTH = 64
MAX_ELEMENTS = 200_000
"""Limits of one document.  An answer with 500 machines has about 40,000 elements and a depth of 9."""
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


class InvalidAnswer(Exception):
    """An answer of vSphere that cannot be used.  The text has nothing of the answer itself."""


def parse(document: bytes) -> Element:
    """Return the root element of a document.  Raise InvalidAnswer."""
    parser = XMLParser(target=_Tree())
    try:
        parser.feed(document)
        root: Element = parser.close()
    except ParseError:  # the text would quote the document
        raise InvalidAnswer("the answer is not XML") from None
    except (LookupError, ValueError):  # an encoding that Python or expat does not know
        raise InvalidAnswer("the answer has an unknown encoding") from None
    return root


def type_of(element: Element) -> str:
    """Return the type that an element names (``xsi:type``) without its prefix, or an empty text."""
    return element.get(_TYPE, "").rpartition(":")[2]


def text_of(element: Element | None, name: str) -> str:
    """Return the text of the first child of this name, or an empty text."""
    return "" if element is None else element.findtext(name) or ""


class _Tree(TreeBuilder):
    """Builds the elements of a document, and raises InvalidAnswer beyond the limits."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: Any, attributes: Any, /) -> Element:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH:
            raise InvalidAnswer(f"the answer has elements in more than {MAX_DEPTH} others")
        if self._elements > MAX_ELEMENTS:
            raise InvalidAnswer(f"the answer has more than {MAX_ELEMENTS} elements")
        return super().start(tag.rpartition("}")[2], attributes)

    def end(self, tag: Any, /) -> Element:
        self._depth -= 1
        return super().end(tag.rpartition("}")[2])

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse a document type, which could define entities."""
        raise InvalidAnswer("the answer has a document type")
