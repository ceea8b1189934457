"""The command line, without the demo. Each command imports what it needs when it runs, so that --help is fast."""

import enum
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from api2db.app.exit_codes import FAILED, UNHEALTHY, UNUSABLE
from api2db.errors import Api2dbError, ConfigurationError

app = typer.Typer(name="api2db", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
rejected = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(rejected, name="rejected")
cluster_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cluster_commands, name="cluster")


class LogFormat(enum.StrEnum):
    """The form of log files."""

    TEXT = "text"
    JSON = "json"


Home = Annotated[
    Path | None, typer.Option(help="The project's folder; by default API2DB_HOME, else the current folder.")
]
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Use the journals of a NATS cluster, nats://host:port,host:port,host:port/project; by default that of "
        "API2DB_CLUSTER, else those on this machine's disk.",
    ),
]
MainFile = Annotated[Path, typer.Argument(metavar="MAIN", help="The file that holds the collectors.")]
StreamName = Annotated[
    str, typer.Argument(metavar="STREAM", help="The stream as named by api2db status, or part of its name.")
]
PeekAuth = Annotated[
    str | None,
    typer.Option(
        "--auth",
        help="bearer:$TOKEN, basic:$USER:$PASSWORD, header:NAME:$KEY or param:NAME:$KEY; in single quotes, so that the "
        "shell does not replace the variable.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")]
_MAIN_FILE: Final = Path("main.py")
_DEBUG: Final = "--debug"
WEB_ADDRESS: Final = "127.0.0.1:8321"


def main() -> NoReturn:
    """Run the command line, then exit with its code. With ``--debug`` an error has its traceback."""
    arguments = [each for each in sys.argv[1:] if each != _DEBUG]
    try:
        app(_with_addresses(arguments), prog_name="api2db")
    except Exception as error:  # noqa: BLE001 - the person at the terminal gets one line
        if len(arguments) < len(sys.argv) - 1:
            from api2db.texts import redact

            sys.stderr.write(redact(traceback.format_exc()))
        sys.stderr.write(f"api2db: {_said(error)}\n")
        sys.exit(UNUSABLE if isinstance(error, ConfigurationError) else FAILED)
    sys.exit(0)


def _said(error: Exception) -> str:
    """What to write about an error: its message, which has the next step; of an unforeseen one also its class."""
    if isinstance(error, Api2dbError):
        return str(error)
    from api2db.texts import describe_error

    step = "please report it, with what this shows: api2db --debug, and the same arguments"
    return f"{describe_error(error)}; " + ("check the path and its rights" if isinstance(error, OSError) else step)


def _with_addresses(arguments: list[str]) -> list[str]:
    """Give ``--web`` its default if no address follows it; typer has no options with an optional value."""
    given = [*arguments, ""]
    return [
        f"--web={WEB_ADDRESS}" if each == "--web" and (not after or after[0] == "-" or after.endswith(".py")) else each
        for each, after in zip(arguments, given[1:], strict=True)
    ]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("api2db"))
        raise typer.Exit


@app.callback()
def _api2db(
    *,
    version: Annotated[  # noqa: ARG001 - its callback prints
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[  # noqa: ARG001 - main has taken it from the arguments
        bool, typer.Option(_DEBUG, help="Show the traceback of an error; it may also stand behind a command.")
    ] = False,
    cluster: ClusterAddress = None,
) -> None:
    """Load an API's rows into files and databases: on disk before they are acknowledged, and exactly once.

    Exit codes: 0 success; 1 something failed; 2 the command or the project can't be used as it is written; 3 "api2db
    status" or "api2db doctor" found something that needs attention: parked or rejected rows, damaged parts of a
    journal, a target that can't be reached, rows that wait for a stream that has died, or a store whose last round
    failed.

    Example: api2db init my_project && cd my_project && api2db run
    """
    if cluster is not None or "API2DB_CLUSTER" in os.environ:
        from api2db.app._cluster import use_cluster

        use_cluster(cluster)


@app.command("init")
def _init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; created if it is missing.")],
    collectors: Annotated[
        list[str] | None, typer.Argument(metavar="[COLLECTOR]...", help="The names of its collectors.")
    ] = None,
    *,
    url: Annotated[str | None, typer.Option(help="A list of an HTTP API for the collector to poll.")] = None,
    auth: PeekAuth = None,
) -> None:
    """Create a project that runs as it is. Existing files are never overwritten.

    Its collectors poll a sample API on this machine, until you replace it by yours. With --url the project has one
    collector, for that list: the list is asked for once, and the arguments are guessed as "api2db peek" does.

    Example: api2db init shop orders customers
    """
    from api2db.app._scaffold import make_project
    from api2db.rest.peek import peek

    if auth is not None and url is None:
        raise ConfigurationError("--auth is for the API of --url, which is missing")
    for path in make_project(folder, collectors or (), None if url is None else peek(url, auth)):
        print(path)
    print(f"\nNow: cd {folder} && api2db run")


@app.command("peek")
def _peek(
    url: Annotated[str, typer.Argument(metavar="URL", help="A list of an HTTP API, with its query.")],
    *,
    auth: PeekAuth = None,
    to: Annotated[str, typer.Option(help="The target of the program, whose column types are shown.")] = "DuckDB",
) -> None:
    """Ask an API for a list once; show its columns, guesses of key, cursor and pagination, and a collector to paste.

    Nothing is stored.

    Example: api2db peek 'https://api.example.com/orders?limit=100' --auth 'bearer:$TOKEN' --to PostgreSQL
    """
    from api2db.app._peek import show_peek

    show_peek(url, auth, to)


@app.command("run")
def _run(
    main_file: MainFile = _MAIN_FILE,
    *,
    once: Annotated[bool, typer.Option("--once", help="Poll each collector once, deliver, and exit.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="With --once: seconds to wait for the delivery; no limit by default.")
    ] = None,
    web: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]", help=f"Also serve the live page, at {WEB_ADDRESS} by default; see: api2db web."
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="How to write the files in LOGS/: text, or one JSON object per line.")
    ] = LogFormat.TEXT,
    cluster: ClusterAddress = None,
    home: Home = None,
) -> None:
    """Run a project's collectors until Ctrl-C. Shows a status table on a terminal, plain lines elsewhere.

    Example: api2db run main.py --web
    """
    from api2db.app._cluster import use_cluster
    from api2db.app._commands import run_project
    from api2db.app.logs import FORMAT_VARIABLE

    use_cluster(cluster)
    if log_format is LogFormat.JSON:
        os.environ[FORMAT_VARIABLE] = log_format

    run_project(main_file, home_of_command(home), once=once, timeout_s=timeout, web=web)


@app.command("backfill")
def _backfill(
    collector: Annotated[str, typer.Argument(metavar="COLLECTOR", help="A collector that polls a resource.")],
    main_file: Annotated[Path, typer.Argument(metavar="MAIN", help="The file that holds the collectors.")] = Path(
        "main.py"
    ),
    *,
    begin: Annotated[str | None, typer.Option("--from", help="Where to begin, such as 2020-01-01.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Where to end.")] = None,
    step: Annotated[str, typer.Option(help="The length of a window, such as 12h or 7d.")] = "1d",
    cancel: Annotated[bool, typer.Option("--cancel", help="End the backfill that is under way.")] = False,
    home: Home = None,
) -> None:
    """Poll the history of a collector in windows, into the same table.

    The collector's resource needs keys, and a cursor with param= and until=. During a run, the run's own process polls
    the history between its live polls, and goes on after Ctrl-C. Without a run, the command polls by itself. A backfill
    that was interrupted continues where it was, with the next run or with the same command.

    Example: api2db backfill orders --from 2020-01-01 --to 2025-01-01 --step 7d
    """
    from api2db.app._backfill import end_backfill, run_backfill

    home_of_command(home)
    if cancel:
        end_backfill(main_file, collector)
    elif begin is None or end is None:
        raise ConfigurationError("a backfill needs --from and --to; or give --cancel to end one")
    elif not run_backfill(main_file, collector, (begin, end, step)):
        raise typer.Exit(FAILED)


@app.command("compose")
def _compose(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the shards.")],
    *,
    fmt: Annotated[str, typer.Option(help="Their format: parquet, json, csv or pickle.")] = "parquet",
    out: Annotated[Path | None, typer.Option(help="The folder for the composed file; DIR/composed by default.")] = None,
    move_shards: Annotated[
        Path | None, typer.Option(help="The folder to move the shards to; they are deleted by default.")
    ] = None,
) -> None:
    """Compose the shards of a folder into one file, which is on disk before any shard is removed.

    A shard that can't be read stays where it is and is named; the exit code is then 1.

    Example: api2db compose STORE/orders/parquet --out composed
    """
    from api2db.app._storing import compose_folder

    if not compose_folder(folder, fmt, out or folder / "composed", move_shards):
        raise typer.Exit(FAILED)


@app.command("store")
def _store(
    collector: Annotated[str, typer.Argument(metavar="COLLECTOR", help="The collector whose stores to run.")],
    main_file: MainFile = _MAIN_FILE,
    *,
    once: Annotated[bool, typer.Option("--once", help="Run one round of each store now, then exit.")] = False,
    home: Home = None,
) -> None:
    """Run a collector's stores on their schedules until Ctrl-C, without polling.

    With --once the exit code is 1 if a round failed or left a shard that can't be read.

    Example: api2db store orders --once
    """
    from api2db.app._storing import run_stores

    if not run_stores(main_file, home_of_command(home), collector, once=once):
        raise typer.Exit(FAILED)


@app.command("status")
def _status(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until Ctrl-C, what is wrong first.")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only collectors and streams with this in their name.")
    ] = None,
    home: Home = None,
) -> None:
    """Show the status of a project's streams, with or without a run. Exit code 3 if something needs attention.

    Example: api2db status --only orders --json
    """
    from api2db.app._status import print_status, watch_status

    if watch:
        watch_status(home_of_command(home), only)
    elif not print_status(home_of_command(home), as_json_text=json, only=only):
        raise typer.Exit(UNHEALTHY)


@app.command("doctor")
def _doctor(
    main_file: MainFile = _MAIN_FILE,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Home = None,
) -> None:
    """Examine a project: collectors, APIs, targets, rights, limits and journals. Exit code 3 if something is wrong.

    Each API of a resource is asked for one page, which is not stored. Targets are only read.

    Example: api2db doctor main.py
    """
    from api2db.app._doctor import print_findings

    if not print_findings(main_file, home_of_command(home), as_json=json):
        raise typer.Exit(UNHEALTHY)


@app.command("explain")
def _explain(
    collector: Annotated[str, typer.Argument(metavar="COLLECTOR", help="Whose rows to look for.")],
    main_file: MainFile = _MAIN_FILE,
    *,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="What the rows have; needed, and may be given several times."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Home = None,
) -> None:
    """Say where rows of a collector are: waiting, in a target, or rejected, and why. Exit code 1 if there are none.

    Example: api2db explain orders --where id=42
    """
    from api2db.app._explain import print_places

    if not where:
        raise ConfigurationError("explain needs to know what the rows have, such as --where id=42")
    if not print_places(main_file, home_of_command(home), collector, where, as_json=json):
        raise typer.Exit(FAILED)


@app.command("forget")
def _forget(
    stream: StreamName,
    *,
    yes: Yes = False,
    home: Home = None,
) -> None:
    """Drop a stream that is no longer used, and all rows that wait for it.

    Example: api2db forget shard:STORE/orders/parquet
    """
    from api2db.app._commands import forget_stream

    forget_stream(home_of_command(home), stream, lambda question: yes or typer.confirm(question, abort=True))


@app.command("adopt")
def _adopt(
    stream: StreamName,
    *,
    yes: Yes = False,
    home: Home = None,
) -> None:
    """Continue a stream after a copy of this project has written to its target's ledger.

    Stop the copy first. This project then owns the ledger. Rows that the copy delivered under the same frames may be
    stored twice: check the target.

    Example: api2db adopt postgresql:db.example.com:5432/shop#orders
    """
    from api2db.app._commands import adopt_stream

    adopt_stream(home_of_command(home), stream, lambda question: yes or typer.confirm(question, abort=True))


@cluster_commands.callback()
def _cluster() -> None:
    """Set up a NATS cluster that has the journals, and show who runs what.

    Example: api2db cluster init servers a.example.com b.example.com c.example.com
    """


@cluster_commands.command("init")
def _init_cluster(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it must be empty or missing.")],
    hosts: Annotated[
        list[str], typer.Argument(metavar="HOST HOST HOST", help="The names by which the three servers are reached.")
    ],
    *,
    project: Annotated[str, typer.Option(help="Keeps the projects of one cluster apart.")] = "api2db",
) -> None:
    """Write what three servers need: configurations with TLS and keys, a Compose file and Kubernetes manifests.

    Example: api2db cluster init servers a.example.com b.example.com c.example.com --project shop
    """
    from api2db.app._cluster_commands import init_cluster

    init_cluster(folder, hosts, project)


@cluster_commands.command("status")
def _cluster_status(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Home = None,
) -> None:
    """Show workers, who runs which collector, and replicas. Exit code 3 if a stream lacks replicas or a leader.

    Example: api2db --cluster=nats://a,b,c cluster status
    """
    from api2db.app._cluster_commands import print_cluster

    if not print_cluster(home_of_command(home), as_json_text=json):
        raise typer.Exit(UNHEALTHY)


Moved = Annotated[
    list[str] | None, typer.Argument(metavar="[COLLECTOR]...", help="Whose journals; by default those of all.")
]


@cluster_commands.command("import")
def _import_journals(collectors: Moved = None, home: Home = None) -> None:
    """Move journals from this machine's disk into the cluster, with all that waits and is set aside.

    Nothing may run them meanwhile. If it is killed, run it again.

    Example: api2db --cluster=nats://a,b,c cluster import orders
    """
    from api2db.app._cluster_commands import import_journals

    if not import_journals(home_of_command(home), collectors or ()):
        raise typer.Exit(FAILED)


@cluster_commands.command("export")
def _export_journals(collectors: Moved = None, home: Home = None) -> None:
    """Move journals from the cluster to this machine's disk, with all that waits and is set aside.

    Nothing may run them meanwhile. If it is killed, run it again.

    Example: api2db --cluster=nats://a,b,c cluster export orders
    """
    from api2db.app._cluster_commands import export_journals

    if not export_journals(home_of_command(home), collectors or ()):
        raise typer.Exit(FAILED)


@rejected.callback()
def _rejected() -> None:
    """Show rejected rows, put them again, or delete them.

    Example: api2db rejected list
    """


@rejected.command("list")
def _list_rejected(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Home = None,
) -> None:
    """List the files of rejected rows.

    Example: api2db rejected list --json
    """
    from api2db.app._commands import print_rejected

    print_rejected(home_of_command(home), as_json=json)


@rejected.command("show")
def _show_rejected(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file as listed, or part of its name.")],
    *,
    rows: Annotated[int, typer.Option(min=1, help="The number of rows to show at most.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Home = None,
) -> None:
    """Show rejected rows with their reasons.

    Example: api2db rejected show orders --rows 50
    """
    from api2db.app._commands import show_rejected_rows

    show_rejected_rows(home_of_command(home), file, rows, as_json=json)


@rejected.command("retry")
def _retry_rejected(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="The files as listed, or parts of their names.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All files.")] = False,
    home: Home = None,
) -> None:
    """Put rejected rows again, for the stream that rejected them, once the cause is fixed.

    Example: api2db rejected retry --all
    """
    from api2db.app._commands import retry_rejected_files

    if bool(files) == everything:
        raise ConfigurationError("name files of rejected rows, or give --all; see: api2db rejected list")
    if not retry_rejected_files(home_of_command(home), files or None):
        raise typer.Exit(FAILED)


@rejected.command("drop")
def _drop_rejected(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="The files as listed, or parts of their names.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All files.")] = False,
    yes: Yes = False,
    home: Home = None,
) -> None:
    """Delete rejected rows for good.

    Example: api2db rejected drop orders --yes
    """
    from api2db.app._commands import drop_rejected_files

    if bool(files) == everything:
        raise ConfigurationError("name files of rejected rows, or give --all; see: api2db rejected list")
    if not drop_rejected_files(
        home_of_command(home), files or None, lambda text: yes or typer.confirm(text, abort=True)
    ):
        raise typer.Exit(FAILED)


def home_of_command(home: Path | None) -> Path:
    """Set the project's folder for this process and its children."""
    from api2db.disk.folders import project_home

    if home is not None:
        os.environ["API2DB_HOME"] = str(home.absolute())
    return project_home()
