"""Links between pages lead somewhere: to a file that there is, and to a heading in it as GitHub names it."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import FENCE, HEADING, PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
OTHERS = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "examples").glob("**/*.md"))]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes links of them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    named = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found["text"]) for found in HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in named}


def broken(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in LINK.findall(text) if "://" not in link and not _leads(page, link)]


def _leads(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    there = (page.parent / file).resolve() if file else page
    return there.exists() and (not anchor or anchor in anchors(there))


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `page`, of us\n[a](#a-page-of-us) [b](#b) [c](c.md) [d](https://example.com/d)\n")
    assert broken(page) == ["#b", "c.md"]
