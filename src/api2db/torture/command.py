"""The command ``api2db torture``."""

import json
import os
import random
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from api2db.app._progress import progress_bar
from api2db.app.screen import print_table
from api2db.errors import ConfigurationError
from api2db.texts import redact
from api2db.torture import run
from api2db.torture._server import KillableServer
from api2db.torture.run import Outcome, Torture, chosen_faults
from api2db.torture.scratch import Scratch, scratch_in

_INTERRUPTED: Final = 130
_SEEDS: Final = 10_000


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; see the command's help.

    Attributes:
        to: The target.
        kills: How many faults to inject.
        faults: Separated by commas; None for all that the target can have.
        seed: Decides the choices; None for a random one.
        home: The folder in which the torture makes its own; by default the current one.
    """

    to: str
    kills: int
    faults: str | None
    seed: int | None
    home: Path | None
    server_command: str
    server_pid_file: Path | None
    as_json: bool


def run_torture(asked: Asked) -> int:
    """Torture a target and print what was found; return the exit code, 0 if the promise held.

    Raises:
        ConfigurationError: The target or a fault can't be had.
        TargetUnavailableError: The target can't be reached.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("api2db torture forks processes, which this system can't; run it on Linux or macOS")
    home = (asked.home or Path()).absolute() / f"api2db_torture_{secrets.token_hex(4)}"
    scratch = scratch_in(asked.to, home, os.environ)
    faults = chosen_faults(
        scratch,
        None if asked.faults is None else [fault.strip() for fault in asked.faults.split(",") if fault.strip()],
        may_kill_server=bool(asked.server_command or asked.server_pid_file),
    )
    seed = random.randrange(_SEEDS) if asked.seed is None else asked.seed  # noqa: S311 - no secret
    torture = Torture(scratch, home, faults, asked.kills, seed, _server(asked, scratch), run.JOBS)
    console = Console(stderr=asked.as_json, highlight=False, soft_wrap=True)
    console.print(Text(f"{scratch.name}: {asked.kills} faults of {', '.join(faults)}; seed {seed}"))
    try:
        with progress_bar(console):
            outcome = torture.run()
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left")
        return _INTERRUPTED
    if asked.as_json:
        print(json.dumps(outcome.as_json(), indent=2))
    _show(console, outcome, torture, asked)
    return 0 if outcome.held else 1


def _server(asked: Asked, scratch: Scratch) -> KillableServer | None:
    if not asked.server_command and asked.server_pid_file is None:
        return None
    if scratch.address is None:
        raise ConfigurationError(f"{scratch.kind} has no server; drop --server-command and --server-pid-file")
    return KillableServer(scratch.address, asked.server_command, asked.server_pid_file)


def _show(console: Console, outcome: Outcome, torture: Torture, asked: Asked) -> None:
    injected = ", ".join(f"{count} {fault}" for fault, count in outcome.faults.items()) or "none"
    console.print(f"Faults: {injected}; {outcome.processes} processes; {outcome.seconds:,.0f} s")
    if not asked.as_json:
        rows = [[name.replace("_", " "), f"{count:,}"] for name, count in outcome.rows._asdict().items()]
        print_table(console, ["", "rows"], rows)
    if outcome.trouble:
        console.print(Text(f"The torture came to no end: {outcome.trouble}"))
    if outcome.held:
        console.print("The promise held: each acknowledged row is there or set aside, once, in order and unchanged.")
        return
    wrong = outcome.as_json()["wrong_frames"]
    for what, frames in wrong.items():
        console.print(f"{what}: frames {', '.join(map(str, frames))}")
    choices = {"to": redact(asked.to), "kills": asked.kills, "faults": ",".join(torture.faults), "seed": outcome.seed}
    again = shlex.join(part for name, value in choices.items() for part in (f"--{name}", str(value)))
    console.print(
        Text(f"The promise did not hold. Nothing was removed: {torture.home}. Repeat it with: api2db torture {again}")
    )
