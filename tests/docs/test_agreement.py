"""Faults planted in a page are found: otherwise test_docs.py would pass whatever the docs say."""

from pathlib import Path

import pytest
import typer
import typer.main

from docs.generate import page_of
from tests.docs.agreement import disagreement_of_command, disagreement_of_option, options_left_out
from tests.docs.markdown import blocks, commands, option_rows

PAGE = """# A page

```console
$ api2db run main.py --once && echo done
.venv/bin/api2db rejected show \\
    departures   # and more
pip install api2db
```

```python run
print("| option | default |")
```

## `Carrier`: carries

| option | default | what it does |
|---|---|---|
| `name` | required | whose it is |
| `mode` | `"shard"` | how |
"""


class Carrier:
    def __init__(self, name: str, mode: str = "shard", *, limit: int | None = None) -> None:
        self.told = (name, mode, limit)


class Faster(Carrier):
    def __init__(self, name: str, gear: int = 3) -> None:
        super().__init__(name)
        self.gear = gear


CLASSES = {"Carrier": Carrier, "Faster": Faster}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


@pytest.fixture
def app() -> typer.Typer:
    app, rejected = typer.Typer(), typer.Typer()
    app.add_typer(rejected, name="rejected")

    @app.command()
    def run(main: str = "main.py", *, once: bool = False) -> None:
        """Run it."""

    @rejected.command()
    def show(stream: str) -> None:
        """Show them."""

    return app


def test_blocks_are_found_with_what_their_fence_says(page: Path) -> None:
    assert [(block.line, block.info) for block in blocks(page)] == [(3, "console"), (10, "python run")]


def test_commands_are_found_without_prompt_and_path(page: Path) -> None:
    assert [line.split()[:3] for line in commands(next(blocks(page)))] == [
        ["api2db", "run", "main.py"],
        ["api2db", "rejected", "show"],
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("api2db run main.py --once && echo --never", None),
        ("api2db rejected show STREAM", None),
        ("api2db --help", None),
        ("api2db [rejected|run] [--help]", None),
        ("api2db [rejected|walk]", "no command walk"),
        ("api2db walk", "no command walk"),
        ("api2db run --twice", "no option --twice"),
        ("api2db rejected drop", "no command drop"),
        ("api2db rejected show --once", "no option --once"),
    ],
)
def test_a_command_that_does_not_exist_is_named(line: str, fault: str | None, app: typer.Typer) -> None:
    problem = disagreement_of_command(line, typer.main.get_command(app))
    assert problem is None if fault is None else fault in str(problem)


def test_a_page_that_is_right_is_not_blamed(page: Path) -> None:
    assert [disagreement_of_option(row, CLASSES) for row in option_rows(page)] == [None, None]


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ('`"shard"`', '`"update"`', "the code says 'shard'"),
        ("`mode`", "`mood`", "takes no mood"),
        ("required", "`None`", "the code says 'required'"),
        ("`Carrier`", "`Porter`", "names no class"),
    ],
)
def test_a_wrong_option_is_named(page: Path, right: str, wrong: str, fault: str) -> None:
    page.write_text(PAGE.replace(right, wrong), encoding="utf-8")
    assert fault in " ".join(filter(None, (disagreement_of_option(row, CLASSES) for row in option_rows(page))))


def test_an_option_that_no_table_tells_of_is_named(page: Path) -> None:
    rows = list(option_rows(page))
    assert options_left_out(Carrier, rows, CLASSES) == ["limit"]
    assert options_left_out(Faster, rows, CLASSES) == ["gear"]


def test_the_generated_page_has_every_command_option_and_default(app: typer.Typer) -> None:
    written = page_of(app)
    assert [line for line in written.splitlines() if line.startswith("## ")] == [
        "## `api2db`",
        "## `api2db run`",
        "## `api2db rejected`",
        "## `api2db rejected show`",
    ]
    assert "| `--once`, `--no-once` | `False` |" in written
    assert "| `STREAM` | required |" in written
