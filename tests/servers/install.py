"""Gets the servers and the browser that the tests start, if they are missing: ``python -m tests.servers.install``.

Emulators of BigQuery are Python packages. Each gets an environment of its own, with the versions that a file pins.

On Debian and Ubuntu, PostgreSQL and MariaDB are installed as their packages, which takes root. MySQL, which Debian
stable does not have, is downloaded with all it needs from Debian unstable (on Ubuntu, from its own archive) and
unpacked into a cache folder. There apt works on a state of its own: the system stays as it is, and no root is needed.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.servers.emulators import EMULATORS, Emulator, offer_extensions
from tests.servers.engines import Kind, find, known

CASES: dict[Kind, str] = {
    "postgresql": "apt-get install postgresql",
    "mariadb": "apt-get install mariadb-server-core mariadb-client-core",
    "mysql": "python -m tests.servers.install, on Debian or Ubuntu",
}
NAMES_OF_MYSQL = ("mysql-server-core", "mysql-server-core-8.4", "mysql-server-core-8.0")
DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NOTHING_INSTALLED = ("--yes", "--no-install-recommends", "--download-only")


class NotInstalledError(Exception):
    """Why a server could not be had."""


def cache_folder() -> Path:
    """Where unpacked servers are kept; as root in a place that the servers' user may read, too."""
    if os.geteuid() == 0:
        return Path("/var/cache/api2db-tests")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "api2db-tests"


def root_of_mysql() -> Path:
    return cache_folder() / "mysql"


def environment_of(emulator: Emulator) -> Path:
    """Where an emulator's environment is, if it has been made."""
    return cache_folder() / emulator.name


def install_emulator(emulator: Emulator) -> None:
    """Make an emulator's environment, if it is missing.

    Raises:
        NotInstalledError: It can't be had here, with the reason.
    """

    def make(folder: Path) -> None:
        root = folder / "root"
        _run(sys.executable, "-m", "venv", str(root))
        pip = (str(root / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
        _run(*pip, "install", "--no-deps", "--requirement", str(emulator.pins))
        offer_extensions(root)

    _once(environment_of(emulator), make)


def install(kind: Kind) -> None:
    """Get a kind of server, where it is missing.

    Raises:
        NotInstalledError: It can't be had here, with the reason.
    """
    if find(kind, root_of_mysql()):
        return
    if not shutil.which("apt-get"):
        raise NotInstalledError("only Debian and Ubuntu are known here")
    if kind == "mysql":
        _once(root_of_mysql(), _unpack_mysql)
    elif os.geteuid() != 0:
        raise NotInstalledError(f"it takes root: {CASES[kind]}")
    else:
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *CASES[kind].split()[2:])


def _once(place: Path, make: Callable[[Path], None]) -> None:
    """Make a folder, unless it is there: ``make`` leaves it as ``root`` below the one that it gets."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if place.exists():
            return
        with tempfile.TemporaryDirectory(prefix="unpacking-", dir=cache_folder()) as folder:
            make(Path(folder))
            (Path(folder) / "root").rename(place)


def _unpack_mysql(folder: Path) -> None:
    options = _private_apt(folder)
    _apt_get(*options, "update")
    _download_mysql(options)
    root = folder / "root"
    root.mkdir(mode=0o755)
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        _run("dpkg", "--extract", str(package), str(root))


def _private_apt(folder: Path) -> list[str]:
    """Options under which apt believes that nothing is installed, and writes only below a folder."""
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    status = folder / "state/status"
    status.touch()
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": status,
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    if _distribution() == "debian":
        sources = folder / "unstable.sources"
        sources.write_text(_unstable())
        options |= {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": folder / "parts"}
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def _unstable() -> str:
    return f"Types: deb\nURIs: {_mirror()}\nSuites: sid\nComponents: main\nSigned-By: {DEBIAN_KEYS}\n"


def _mirror() -> str:
    """The archive of Debian that this machine itself uses, not that of its security updates."""
    targets = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Identifier: Packages")
    for target in targets.splitlines():
        address, _, label = target.partition(" ")
        if label == "Debian":
            return address
    raise NotInstalledError("apt knows no archive labelled Debian")


def _distribution() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "ID":
                return value.strip('"')
    return ""


def _download_mysql(options: list[str]) -> None:
    reasons = []
    for name in NAMES_OF_MYSQL:
        try:
            return _apt_get(*options, "install", *NOTHING_INSTALLED, name)
        except NotInstalledError as error:
            reasons.append(str(error))
    raise NotInstalledError(reasons[0])


def _apt_get(*arguments: str) -> None:
    _run("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *arguments)


def _run(*command: str) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise NotInstalledError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def missing(kinds: list[Kind]) -> Iterator[tuple[Kind, str]]:
    """Install each; give those that could not be had, with the reason."""
    for kind in kinds:
        try:
            install(kind)
        except NotInstalledError as error:
            yield kind, str(error)


def install_browser() -> None:
    """Get Chromium and its driver, which look at the live page, where they are missing.

    Raises:
        NotInstalledError: They can't be had here, with the reason.
    """
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    if _distribution() != "debian" or os.geteuid() != 0:
        raise NotInstalledError("it takes Debian and root: apt-get install chromium chromium-driver")
    _apt_get("update")
    _apt_get("install", "--yes", "--no-install-recommends", "chromium", "chromium-driver")


def main() -> None:
    try:
        install_browser()
    except NotInstalledError as error:
        sys.stderr.write(f"warning: no browser to test with: {error}\n")
    for emulator in EMULATORS:
        try:
            install_emulator(emulator)
        except NotInstalledError as error:
            sys.stderr.write(f"warning: no {emulator.package} to test with: {error}\n")
    for kind, reason in missing(known(sys.argv[1:] or list(CASES))):
        sys.stderr.write(f"warning: no {kind} to test with: {reason}\n")


if __name__ == "__main__":
    main()
