"""Decoders of response bodies: JSON, NDJSON, CSV and XML."""

import csv
import io
import re
from collections.abc import Callable
from itertools import dropwhile
from typing import Any, Final, Literal
from xml.etree import ElementTree

from api2db.errors import PollError
from api2db.rest._json import decode

Format = Literal["json", "ndjson", "csv", "xml"]
FORMATS: Final = ("json", "ndjson", "csv", "xml")
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


def document_of(
    body: bytes,
    format_: Format,
    content_type: str,
    max_depth: int,
    first_line: int = 1,
    scrub: Callable[[str], str] = str,
) -> Any:
    """Return what a body holds: for JSON any document, for the others a list of records.

    Args:
        body: The body, or some lines of it.
        format_: What it is.
        content_type: What the server says it is.
        max_depth: How deeply a document may be nested.
        first_line: The number of its first line in the whole body.
        scrub: Hides secrets in what a message shows of it.

    Raises:
        PollError: The body does not have that format.
    """
    match format_:
        case "json":
            return decode(_as_utf8(body, content_type), max_depth, scrub)
        case "ndjson":
            lines = _as_utf8(body, content_type).splitlines()
            return [
                _line(line, place, max_depth, scrub) for place, line in enumerate(lines, first_line) if line.strip()
            ]
        case "csv":
            return _rows(_as_utf8(body, content_type))
        case "xml":
            return _elements(body, max_depth)


def _as_utf8(body: bytes, content_type: str) -> bytes:
    found = _CHARSET.search(content_type)
    if found is None or found[1].lower() in {"utf-8", "utf8", "us-ascii"}:
        return body
    try:
        return body.decode(found[1]).encode()
    except (LookupError, UnicodeError):
        raise PollError(f"the response is not text in its charset {found[1]!r}") from None


def _line(line: bytes, place: int, max_depth: int, scrub: Callable[[str], str]) -> Any:
    try:
        return decode(line, max_depth, scrub)
    except PollError as error:
        raise PollError(f"line {place}: {error}") from None


def _rows(body: bytes) -> list[dict[str, str | None]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PollError(f"the response is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        hint = "; raise Python's csv.field_size_limit if that is right" if "field limit" in str(error) else ""
        raise PollError(f"the response is not CSV that can be read: {error}{hint}") from None
    header, *lines = list(dropwhile(lambda cells: not cells, found)) or [[]]
    # With one column an empty line is a row whose cell is empty; with more of them it is none.
    lines = [cells or [""] for cells in lines if cells or len(header) == 1]
    if len(set(header)) < len(header):
        raise PollError(f"the CSV has two columns with the same name in {header!r}")
    for place, cells in enumerate(lines, 2):
        if len(cells) != len(header):
            raise PollError(f"row {place} of the CSV has {len(cells)} cells, and its header {len(header)}")
    return [{name: cell or None for name, cell in zip(header, cells, strict=True)} for cells in lines]


def _elements(body: bytes, max_depth: int) -> Any:
    parser = ElementTree.XMLParser(target=_WithoutDeclarations())  # noqa: S314 - it reads no declarations
    try:
        root = ElementTree.fromstring(body, parser)  # noqa: S314
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise PollError(f"the response is not XML: {error}") from None
    return {_name(root): _element(root, max_depth)}


class _WithoutDeclarations(ElementTree.TreeBuilder):
    """Builds a tree, and refuses a declaration of a document type where the parser finds it, in any encoding."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the declaration; entities can only be declared within one."""
        raise PollError("the XML declares a document type or entities, which are not read")


def _element(element: ElementTree.Element, depth: int) -> Any:
    """Return an object of attributes and children, with a list for repeated children; or the text if there are none."""
    if depth <= 0:
        raise PollError("the XML is nested too deeply; raise max_depth of RestApi if that is right")
    found: dict[str, Any] = dict(element.attrib)
    for child in element:
        name, value = _name(child), _element(child, depth - 1)
        if name in found:
            found[name] = [*found[name], value] if isinstance(found[name], list) else [found[name], value]
        else:
            found[name] = value
    text = (element.text or "").strip()
    if not found:
        return text or None
    return found | {"text": text} if text else found


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
