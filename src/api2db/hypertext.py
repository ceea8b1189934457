"""Tables in HTML, as notebooks show them: every value is escaped, redacted and of bounded length."""

import html
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from api2db.texts import redact

_LONGEST_TEXT: Final = 300  # characters
_AREA: Final = '<div class="tex2jax_ignore mathjax_ignore">{}</div>'  # a $ in a value begins no formula
_RED: Final = ' style="color: #c62828"'
_LEFT: Final = ' style="text-align: left"'
_RIGHT: Final = ' style="text-align: right"'


def escaped(value: object) -> str:
    """Return a value as text that is safe within HTML, also between quotes."""
    text = redact(str(value))
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return html.escape(shown.encode("utf-8", "replace").decode().replace("\0", "�"))


def area(*parts: str) -> str:
    """Return parts of HTML as one area of a notebook."""
    return _AREA.format("".join(parts))


def paragraph(text: object, *, is_error: bool = False) -> str:
    """Return a text as a paragraph."""
    return f"<p{_RED if is_error else ''}>{escaped(text)}</p>"


def title(text: object) -> str:
    """Return a text as a heading."""
    return f"<div><strong>{escaped(text)}</strong></div>"


def facts(values: Mapping[str, object]) -> str:
    """Return a table with a name and a value in each row."""
    rows = (
        f"<tr><th{_LEFT}>{escaped(name)}</th><td{_LEFT}>{_shown(value)}</td></tr>" for name, value in values.items()
    )
    return f"<table>{''.join(rows)}</table>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[str] = ()) -> str:
    """Return a table; the columns named in ``numbers`` stand at the right."""
    sides = [_RIGHT if name in numbers else _LEFT for name in head]
    heads = "".join(f"<th{side}>{escaped(name)}</th>" for name, side in zip(head, sides, strict=True))
    lines = ("".join(f"<td{side}>{_shown(cell)}</td>" for cell, side in zip(row, sides, strict=True)) for row in rows)
    return (
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escaped(f"{value:,}" if isinstance(value, int) else value)
