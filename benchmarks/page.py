"""Writes docs/benchmarks.md and its plots from ``benchmarks/results.json``."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from benchmarks.figure import Figure
from benchmarks.peers import share_of
from benchmarks.results import Run, read

PAGE: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_OURS: Final = "api2db"
_PEERS: Final = "peers"
_BAR_PX: Final = 300
_ROW_PX: Final = 24
_NAMES_PX: Final = 300
_FIGURES_PX: Final = 160
_HEAD_PX: Final = 34

_OPENING: Final = """# Benchmarks

`make bench-page` generates this page from `benchmarks/results.json`, the figures of the last recorded run of each
benchmark. `make bench` measures all of them on your machine, `make bench-quick` compares a minute's worth of them with
the recorded ratios.

Absolute figures belong to the machine that they were measured on. A *ratio* compares a figure with its floor, which is
the same work without api2db in the same run: 1 is as good as the floor, for times and sizes too. A ratio from a busy
machine (see its load) is less certain.
"""
_ABOUT_PEERS: Final = """\
The floor is PostgreSQL as it reads ready bytes in its own binary format. Each program has its rows in memory as a
pandas DataFrame before its clock runs, and stops it when they are committed. All take turns, three times; the figures
are medians. Programs that would take minutes are given a share of the rows, which the table shows. Peak memory is that
of the whole process, with the rows in it. api2db is measured with its journal and `durability="full"`: its rows are on
disk before they are loaded, and survive a crash. **The others have no journal**: what they have not committed when they
crash is lost, and a retry of what was committed without an answer doubles it.
"""


def files() -> dict[Path, str]:
    """Return the text of each file of the page."""
    runs = read()
    parts = [_OPENING]
    plots: dict[Path, str] = {}
    for name, run in sorted(runs.items(), key=lambda item: (item[0] != _PEERS, item[0])):
        parts += [f"## `{name}`\n", _facts(run)]
        if name != _PEERS:
            parts.append(_table(run.figures))
            continue
        parts.append(_ABOUT_PEERS)
        for workload, figures in _workloads(run.figures).items():
            plot = PAGE.with_name(f"benchmarks_{workload.split()[0]}.svg")
            plots[plot] = _plot(workload, figures)
            parts += [f"### {workload[0].upper()}{workload[1:]}\n", f"![{workload}: rows per second]({plot.name})\n"]
            parts.append(_table_of_peers(figures))
    return {PAGE: "\n".join(parts), **plots}


def _facts(run: Run) -> str:
    place = f"{run.machine}; load {run.load} when it began; {run.versions}"
    return f"Measured on {run.at} at commit `{run.commit}`: {place}.\n"


def _workloads(figures: Sequence[Figure]) -> Mapping[str, list[Figure]]:
    """Sort by the first half of the name, which the second half, the peer's name, follows after a colon."""
    found: dict[str, list[Figure]] = {}
    for each in figures:
        workload, _, _ = each.name.partition(": ")
        found.setdefault(workload, []).append(each)
    return found


def _table(figures: Sequence[Figure]) -> str:
    rows = [
        f"| {_text(each.name)} | {_number(each.value)} {each.unit} | {_floor(each)} | {_ratio(each)} | {_aim(each)} |"
        for each in figures
    ]
    return "\n".join(["| what | measured | floor | ratio | aim |", "|---|---:|---:|---:|---|", *rows, ""])


def _table_of_peers(figures: Sequence[Figure]) -> str:
    rows = [
        f"| {_emphasised(_peer(each))} | {_number(each.value)} | {_ratio(each)} | {_number(each.peak_mb or 0)} | "
        f"{share_of(each.name):.0%} | "
        f"{'yes' if _peer(each).startswith(_OURS) else 'no'} |"
        for each in sorted(figures, key=lambda each: -each.value)
    ]
    floor = f"\nThe floor: {_number(figures[0].floor or 0)} rows/s.\n"
    head = ["| | rows/s | ratio | peak MB | share of the rows | journal |", "|---|---:|---:|---:|---:|---|"]
    return "\n".join([*head, *rows, floor])


def _peer(figure: Figure) -> str:
    return figure.name.partition(": ")[2]


def _emphasised(name: str) -> str:
    return f"**{_text(name)}**" if name.startswith(_OURS) else _text(name)


def _text(name: str) -> str:
    return name.replace("|", "\\|")


def _floor(figure: Figure) -> str:
    return "" if figure.floor is None else f"{_number(figure.floor)} {figure.unit}"


def _ratio(figure: Figure) -> str:
    ratio = figure.ratio
    return "" if ratio is None else f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"


def _aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    return f"{figure.aim:g}, {'reached' if figure.met else '**not reached**'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plot(workload: str, figures: Sequence[Figure]) -> str:
    """Draw a bar for each peer, the longest first, in the colours of the reader's light or dark scheme."""
    return "\n".join(_drawn(workload, sorted(figures, key=lambda each: -each.value))) + "\n"


def _drawn(workload: str, figures: Sequence[Figure]) -> Iterator[str]:
    width, height = _NAMES_PX + _BAR_PX + _FIGURES_PX, _HEAD_PX + _ROW_PX * len(figures) + 8
    most = max(each.value for each in figures)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
    yield f"<title>{escape(workload)}, rows per second</title>"
    yield (
        "<style>text{font:13px system-ui,sans-serif;fill:#24292f}.head{font-weight:600}.bar{fill:#8c959f}"
        ".ours{fill:#0969da}@media(prefers-color-scheme:dark){text{fill:#d1d7e0}.ours{fill:#4493f8}}</style>"
    )
    yield f'<text class="head" x="8" y="20">{escape(workload)}: rows/s (ratio to the floor)</text>'
    for place, each in enumerate(figures):
        y = _HEAD_PX + _ROW_PX * place
        bar = max(1.0, _BAR_PX * each.value / most)
        kind = "ours" if _peer(each).startswith(_OURS) else "bar"
        yield f'<text x="{_NAMES_PX - 8}" y="{y + 15}" text-anchor="end">{escape(_peer(each))}</text>'
        yield f'<rect class="{kind}" x="{_NAMES_PX}" y="{y + 2}" width="{bar:.1f}" height="{_ROW_PX - 7}" rx="2"/>'
        yield f'<text x="{_NAMES_PX + bar + 6:.1f}" y="{y + 15}">{_number(each.value)} ({_ratio(each)})</text>'
    yield "</svg>"


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
