"""Put the pages of the site together in build/pages: docs/, README.md as its home, and the other pages of the project.

Fences and links are changed to what the site's Markdown reads; the pages themselves stay as a repository shows them.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ROOT / "build" / "pages"
_NAMED: Final = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_PICTURES_AND_DATA: Final = (".svg", ".json")
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
_RUN: Final = re.compile(r"^( *`{3,}\w+) run\b", re.MULTILINE)


def sources() -> dict[Path, str]:
    """Each file of the site, with its name there."""
    found = {ROOT / name: there for name, there in _NAMED.items()}
    if (examples := ROOT / "examples" / "README.md").exists():
        found[examples] = "examples.md"
    for path in sorted((ROOT / "docs").iterdir()):
        if path.suffix in {".md", *_PICTURES_AND_DATA}:
            found[path] = path.name
    return found


def page(path: Path, names: Mapping[Path, str]) -> str:
    """The page for the site: a link to a file of the project that is not in the site is its text alone."""

    def linked(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        file, _, anchor = target.partition("#")
        there = names.get((path.parent / file).resolve())
        if there is None:
            return text
        return f"{picture}[{text}]({there}{'#' if anchor else ''}{anchor})"

    return _RUN.sub(r"\1", _LINK.sub(linked, path.read_text(encoding="utf-8")))


def main() -> None:
    """Write them."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    names = sources()
    for path, name in names.items():
        if path.suffix == ".md":
            (PAGES / name).write_text(page(path, names), encoding="utf-8")
        else:
            shutil.copyfile(path, PAGES / name)


if __name__ == "__main__":
    main()
