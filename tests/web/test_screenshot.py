"""The picture of the live page in README: an SVG that needs nothing else."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.web.browser import CHROMIUM, DRIVER
from tests.web.screenshot import DEFAULT, main

SVG, XHTML = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xhtml}"
FOREIGN = {"href", "src", "{http://www.w3.org/1999/xlink}href", "style"}


def check_picture(text: str) -> None:
    """It stands alone: no script, no link, no other file, no path of the machine that drew it."""
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    names = {element.tag for element in root.iter()}
    assert {f"{SVG}foreignObject", f"{XHTML}table", f"{SVG}path"} <= names
    assert not any(name.endswith(("}script", "}img", "}link", "}iframe")) for name in names)
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not attributes & FOREIGN
    assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|prefers-color-scheme|/tmp/|/home/|password", text)
    words = "".join(root.itertext())
    assert "Next step: rows wait in the journal" in words
    assert "6,310" in words


def test_the_picture_stands_alone_and_the_readme_shows_it() -> None:
    check_picture(DEFAULT.read_text(encoding="utf-8"))
    assert "](docs/live_page.svg)" in (DEFAULT.parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.torture
@pytest.mark.skipif(
    not (Path(CHROMIUM).exists() and Path(DRIVER).exists()), reason="Debian's chromium and chromium-driver are missing"
)
def test_the_command_draws_it(tmp_path: Path) -> None:
    main([str(tmp_path / "page.svg")])
    check_picture((tmp_path / "page.svg").read_text(encoding="utf-8"))
