"""Creates a project: folders, templates for credentials, and collectors that run as they are.

Without a URL the collectors poll the sample API, so that the project runs offline and without an account. With a URL
there is one collector, which polls that list.

The files are in ``templates/``, with ``$NAME`` in place of names.
"""

import json
import keyword
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from api2db.disk.atomic import make_folders, publish, sync_folder, write_temporary
from api2db.disk.folders import check_name
from api2db.errors import ConfigurationError
from api2db.rest.peek import Peek

DEFAULT_COLLECTOR = "orders"
_SAMPLE_S = 1
_PEEKED_S = 60
_FOLDERS = ("AUTH", "CACHE", "STORE", "LOGS", "apis")
_SQL = ("db_name", "username", "password", "host", "port")
_OMNISCI = ("db_name", "username", "password", "host")
_BIGQUERY = {
    "type": "service_account",
    "project_id": "$BIGQUERY_PROJECT_ID",
    "private_key_id": "$BIGQUERY_PRIVATE_KEY_ID",
    "private_key": "$BIGQUERY_PRIVATE_KEY",
    "client_email": "$BIGQUERY_CLIENT_EMAIL",
    "client_id": "$BIGQUERY_CLIENT_ID",
    "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    "token_uri": "https://oauth2.googleapis.com/token",
}


def make_project(folder: Path, collectors: Sequence[str] = (), peeked: Peek | None = None) -> list[Path]:
    """Create a project that runs as it is; return its files.

    Args:
        folder: Created if it is missing.
        collectors: Names of its collectors, which must also be names of Python modules; one by default.
        peeked: What to poll instead of the sample API.

    Raises:
        ConfigurationError: A name can't be used, or one of the files exists; then nothing is written.
    """
    names = list(dict.fromkeys(collectors)) or [DEFAULT_COLLECTOR if peeked is None else peeked.name]
    for name in names:
        _check_module_name(name)
    if peeked is not None and len(names) > 1:
        raise ConfigurationError(f"--url gives one collector, and {len(names)} are named: {', '.join(names)}")
    texts = {folder / name: text for name, text in _texts(folder, names, peeked).items()}
    if there := [path for path in texts if path.exists()]:
        raise ConfigurationError(
            f"{', '.join(map(str, there))} exists already; nothing was written, give another folder"
        )
    for name in _FOLDERS:
        make_folders(folder / name)
    for path, text in texts.items():
        _write(path, text)
    return list(texts)


def _check_module_name(name: str) -> None:
    check_name(name)
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigurationError(f"{name!r} can't name a Python module; use letters, digits and underscores")


def _texts(folder: Path, names: Sequence[str], peeked: Peek | None) -> dict[str, str]:
    seconds = str(_SAMPLE_S if peeked is None else _PEEKED_S)
    entries = "".join(_template("collector", NAME=name, SECONDS=seconds) for name in names)
    project = folder.resolve().name
    return {
        "main.py": _template("main", PROJECT=project, MODULES=", ".join(sorted(names)), COLLECTORS=entries),
        "apis/__init__.py": _template("apis"),
        **{f"apis/{name}.py": _module(name, peeked) for name in names},
        "AUTH/bigquery_template.json": _as_json(_BIGQUERY),
        "AUTH/omnisci_template.json": _as_json({key: f"$OMNISCI_{key.upper()}" for key in _OMNISCI}),
        "AUTH/sql_template.json": _as_json({key: f"$SQL_{key.upper()}" for key in _SQL}),
        ".gitignore": "AUTH/\nCACHE/\nLOGS/\nSTORE/\n__pycache__/\n",
    }


def _module(name: str, peeked: Peek | None) -> str:
    if peeked is None:
        return _template("api", NAME=name)
    lines = []
    for argument, code in peeked.arguments.items():
        if argument in peeked.guesses:
            lines.append(f"    # {peeked.guesses[argument].why}\n")
        lines.append(f"    {argument}={code},\n" if argument else f"    {code},\n")
    lines += [f"    # {comment}\n" for comment in peeked.cursor_comment]
    return _template(
        "peeked",
        NAME=name,
        URL=peeked.url,
        CLASSES=", ".join(peeked.classes),
        API=peeked.api,
        ARGUMENTS="".join(lines),
    )


def _template(name: str, **values: str) -> str:
    text = files(__package__).joinpath("templates", f"{name}.py.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _as_json(values: dict[str, str]) -> str:
    return json.dumps(values, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    with write_temporary(path) as temporary:
        temporary.file.write(text.encode())
    publish(temporary.path, path)
    sync_folder(path.parent)
