"""What ``python -m benchmarks`` says of itself."""

import re
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks

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
