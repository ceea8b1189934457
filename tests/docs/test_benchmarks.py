"""What ``python -m benchmarks`` says of itself."""

import re
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import page, quick, results
from benchmarks.figure import Figure

FOLDER = Path(benchmarks.__file__).parent


def test_help_lists_each_benchmark_and_each_variable_that_one_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        benchmarks.main(["--help"])
    said = capsys.readouterr().out
    read = {found for path in FOLDER.glob("*.py") for found in re.findall(r"API2DB_BENCH_\w+", path.read_text())}
    assert read
    assert all(re.search(rf"^  {name} +\S", said, re.MULTILINE) for name in [*benchmarks.BENCHMARKS, *read]), said


def test_a_benchmark_that_is_not_there_is_told_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main(["put", "puts"])
    assert "no benchmark puts; there are put, flights" in capsys.readouterr().err


def test_the_page_and_its_plots_are_those_of_the_recorded_figures() -> None:
    assert all(path.read_text(encoding="utf-8") == text for path, text in page.files().items())


def test_what_was_recorded_is_read_as_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PATH", tmp_path / "results.json")
    figure = Figure("puts", 30_000.0, "rows/s", floor=60_000.0, aim=0.5, peak_mb=200.0)
    results.write("put", [figure], 0.1)
    results.write("quick", [], 0.1)
    assert results.read()["put"].figures == (figure,)


@pytest.mark.parametrize(("value", "has_fallen"), [(79.0, True), (81.0, False)])
def test_a_ratio_that_fell_by_more_than_a_fifth_is_told(value: float, *, has_fallen: bool) -> None:
    last = results.Run("", "", "", "", 0.0, (Figure("puts", 100.0, "/s", floor=100.0), Figure("new", 1.0, "/s")))
    assert (
        bool(quick.fallen([Figure("puts", value, "/s", floor=100.0), Figure("other", 1.0, "/s")], last)) == has_fallen
    )
