"""What differs between the kinds of server: their programs, how they are made, started and asked."""

import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tests.servers.processes import give_away, run
from tests.servers.tls import Certificate

Kind = Literal["postgresql", "mariadb", "mysql"]
POSTGRESQL_FOLDERS = "/usr/lib/postgresql"
PLACES_OF_MARIADB = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin"


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the user that may do everything there."""

    host: str
    port: int
    user: str
    password: str


class Engine(Protocol):
    """One kind of server."""

    @property
    def kind(self) -> Kind:
        """Its name."""

    @property
    def stop_signal(self) -> signal.Signals:
        """What stops it in order, whoever is connected."""

    def initialise(self, folder: Path, user: str, password: str) -> None:
        """Make an empty server in a folder, with one user that may do everything."""

    def command(self, folder: Path, port: int, certificate: Certificate | None) -> list[str]:
        """What starts it."""

    def connect(self, address: Address, database: str | None, options: dict[str, Any]) -> Any:
        """A connection of our own driver, which commits each statement by itself."""

    def failures(self) -> tuple[type[Exception], ...]:
        """What that driver raises when the server is gone, or lets nobody in."""

    def quote(self, name: str) -> str:
        """A name as SQL has it."""

    def creation(self, database: str) -> str:
        """What makes a database."""

    def user_creation(self, user: str, password: str) -> str:
        """What makes a user without rights."""


@dataclass(frozen=True)
class PostgreSQL:
    """PostgreSQL, by its programs in one folder."""

    programs: Path
    kind: Kind = "postgresql"
    stop_signal: signal.Signals = signal.SIGINT

    def initialise(self, folder: Path, user: str, password: str) -> None:
        password_file = _private(folder / "password", password)
        run(
            [
                str(self.programs / "initdb"),
                f"--pgdata={folder / 'data'}",
                f"--username={user}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            folder,
        )

    def command(self, folder: Path, port: int, certificate: Certificate | None) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
        if certificate:
            settings |= {"ssl": "on", "ssl_cert_file": certificate.certificate}
            settings |= {"ssl_key_file": certificate.key, "ssl_ca_file": certificate.authority}
        pairs = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(folder / "data"), *pairs]

    def connect(self, address: Address, database: str | None, options: dict[str, Any]) -> Any:
        import psycopg

        usual = {**asdict(address), "dbname": database or "postgres", "autocommit": True, "connect_timeout": 10}
        return psycopg.connect(**usual | options)

    def failures(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.OperationalError,)

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def creation(self, database: str) -> str:
        return f"CREATE DATABASE {self.quote(database)}"

    def user_creation(self, user: str, password: str) -> str:
        return f"CREATE ROLE {self.quote(user)} LOGIN PASSWORD {_text(password)}"


class _MySQLFamily:
    """What MySQL and MariaDB have in common."""

    stop_signal: signal.Signals = signal.SIGTERM

    def connect(self, address: Address, database: str | None, options: dict[str, Any]) -> Any:
        import pymysql

        usual = {**asdict(address), "database": database, "autocommit": True, "connect_timeout": 10}
        return pymysql.connect(**usual | {"charset": "utf8mb4"} | options)

    def failures(self) -> tuple[type[Exception], ...]:
        import pymysql

        return (pymysql.err.OperationalError,)

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def creation(self, database: str) -> str:
        return f"CREATE DATABASE {self.quote(database)} CHARACTER SET utf8mb4"

    def user_creation(self, user: str, password: str) -> str:
        return f"CREATE USER {_text(user)}@'%' IDENTIFIED BY {_text(password)}"

    def _accounts(self, folder: Path, user: str, password: str) -> Path:
        who = f"{_text(user)}@'%'"
        lines = [
            "FLUSH PRIVILEGES",  # until then MariaDB, being made, knows of no grants
            self.user_creation(user, password),
            f"GRANT ALL ON *.* TO {who} WITH GRANT OPTION",
            "DROP USER IF EXISTS root@localhost",
        ]
        return _private(folder / "accounts.sql", "".join(f"{line};\n" for line in lines))

    def _settings(self, folder: Path, port: int, certificate: Certificate | None) -> list[str]:
        settings = [
            f"--datadir={folder / 'data'}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--local-infile=1",
            "--secure-file-priv=",
            "--character-set-server=utf8mb4",
            "--skip-name-resolve",
        ]
        if certificate:
            settings += [f"--ssl-cert={certificate.certificate}", f"--ssl-key={certificate.key}"]
            settings += [f"--ssl-ca={certificate.authority}"]
        return settings


@dataclass(frozen=True)
class MariaDB(_MySQLFamily):
    """MariaDB, as a system has it installed."""

    program: Path
    installer: Path
    kind: Kind = "mariadb"

    def initialise(self, folder: Path, user: str, password: str) -> None:
        accounts = self._accounts(folder, user, password)
        run(
            [
                str(self.installer),
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                f"--extra-file={accounts}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            folder,
        )

    def command(self, folder: Path, port: int, certificate: Certificate | None) -> list[str]:
        return [str(self.program), "--no-defaults", *self._settings(folder, port, certificate)]


@dataclass(frozen=True)
class MySQL(_MySQLFamily):
    """MySQL, unpacked into a folder and run there by that folder's own libraries."""

    root: Path
    kind: Kind = "mysql"

    def initialise(self, folder: Path, user: str, password: str) -> None:
        accounts = self._accounts(folder, user, password)
        data = folder / "data"
        data.mkdir(mode=0o700)  # else it would let its group read it
        give_away(data)
        run([*self._program(), f"--datadir={data}", "--initialize-insecure", f"--init-file={accounts}"], folder)

    def command(self, folder: Path, port: int, certificate: Certificate | None) -> list[str]:
        return [*self._program(), *self._settings(folder, port, certificate), "--mysqlx=OFF"]

    def _program(self) -> list[str]:
        [loader, *_] = sorted(self.root.glob("usr/lib*/ld-linux*.so.*"))
        libraries = ":".join(str(path) for path in sorted(self.root.glob("usr/lib/*-linux-gnu*")))
        program = str(self.root / "usr/sbin/mysqld")
        return [str(loader), "--library-path", libraries, program, "--no-defaults", f"--basedir={self.root / 'usr'}"]


def find(kind: Kind, root_of_mysql: Path) -> Engine | None:
    """The programs of a kind of server, where this machine has them."""
    if kind == "postgresql":
        return _find_postgresql()
    if kind == "mariadb":
        return _find_mariadb()
    return MySQL(root_of_mysql) if (root_of_mysql / "usr/sbin/mysqld").exists() else None


def _find_postgresql() -> PostgreSQL | None:
    installed = sorted(Path(POSTGRESQL_FOLDERS).glob("*/bin"), key=_version, reverse=True)
    on_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    complete = [folder for folder in installed + on_path if _has(folder, "postgres", "initdb")]
    return PostgreSQL(complete[0]) if complete else None


def _find_mariadb() -> MariaDB | None:
    program, installer = (
        shutil.which(name) or shutil.which(name, path=PLACES_OF_MARIADB) for name in ("mariadbd", "mariadb-install-db")
    )
    return MariaDB(Path(program), Path(installer)) if program and installer else None


def _has(folder: Path, *programs: str) -> bool:
    return all((folder / program).exists() for program in programs)


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder.parent.name)]


def _private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    give_away(path)
    return path


def _text(value: str) -> str:
    """A text as SQL has it; for what tests choose themselves, which holds no backslash."""
    assert "\\" not in value
    return "'" + value.replace("'", "''") + "'"


def known(kinds: Sequence[str]) -> list[Kind]:
    """The kinds that are asked for, in the order in which they are listed here."""
    every: list[Kind] = ["postgresql", "mariadb", "mysql"]
    return [kind for kind in every if kind in kinds]
