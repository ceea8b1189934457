"""The systemd unit and the Containerfile of docs/services.md."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.docs.markdown import ROOT, blocks
from tests.faults.needs import need

PAGE = ROOT / "docs" / "services.md"
INSTRUCTIONS = {"FROM", "COPY", "RUN", "USER", "ENV", "VOLUME", "STOPSIGNAL", "CMD"}


def block_titled(title: str) -> str:
    [found] = [block.text for block in blocks(PAGE) if f'title="{title}"' in block.info]
    return found


def test_systemd_has_nothing_against_the_unit(tmp_path: Path) -> None:
    need("systemd-analyze")
    unit = tmp_path / "shop.service"
    there = block_titled("shop.service").replace("/srv/shop/.venv/bin/python", sys.executable)
    unit.write_text(there, encoding="utf-8")
    verified = ["systemd-analyze", "verify", "--man=no", str(unit)]
    ended = subprocess.run(verified, capture_output=True, text=True, check=False)
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if "shop.service" in line]) == (0, [])


def test_the_containerfile_has_only_known_instructions_and_extras() -> None:
    lines = [line for line in block_titled("Containerfile").splitlines() if line and not line.startswith("#")]
    instructions = [line.split()[0] for line in lines]
    assert set(instructions) <= INSTRUCTIONS
    assert instructions[0] == "FROM"
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["python", "/app/main.py"]


def test_every_extra_that_the_docs_install_is_declared() -> None:
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        named = re.findall(r"""['"][^'"\s]*?(?:api2db|\.)\[([\w,]+)\]['"]""", page.read_text(encoding="utf-8"))
        assert {extra for each in named for extra in each.split(",")} <= declared, page.name
