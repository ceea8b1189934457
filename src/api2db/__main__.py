"""The program ``api2db``: the command line of ``app``, and the demo."""

from pathlib import Path
from typing import Annotated

import typer

from api2db.app.command_line import app, main

__all__ = ["app", "main"]


@app.command("demo")
def _demo(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long to poll.")] = 15.0,
    home: Annotated[Path | None, typer.Option(help="The folder for its data; a new folder by default.")] = None,
) -> None:
    """Load a recorded API into Parquet and DuckDB, and check that no row is missing or doubled."""
    from api2db.demo.show import run_demo

    raise typer.Exit(run_demo(seconds, home))


if __name__ == "__main__":
    main()
