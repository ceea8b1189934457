"""A figure beside its floor and its aim."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    Attributes:
        value: What was measured, in ``unit``.
        floor: The same work without api2db, in ``unit``; None where an aim is absolute.
        aim: The ratio to the floor to reach, or the figure itself where there is no floor.
        less_is_better: For times and sizes.
        peak_mb: The most memory that the process took, in MB (10⁶ bytes), where that was measured.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    aim: float | None = None
    less_is_better: bool = False
    peak_mb: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value to the floor, so that 1 is as good as without api2db."""
        if self.floor is None:
            return None
        return self.floor / self.value if self.less_is_better else self.value / self.floor

    @property
    def met(self) -> bool | None:
        """Whether the aim was reached in this run; None where there is none."""
        if self.aim is None:
            return None
        if self.ratio is not None:
            return self.ratio >= self.aim
        return self.value <= self.aim if self.less_is_better else self.value >= self.aim


def median_of(runs: int, measure: Callable[[int], float]) -> float:
    """The median of several runs; each is given its number, for names of its own."""
    return statistics.median(measure(run) for run in range(runs))


def medians_of(runs: int, measure: Callable[[int], tuple[float, float]]) -> tuple[float, float]:
    """The medians of a floor and of what stands beside it, run in turn, so that a noisy machine is noisy to both."""
    took = [measure(run) for run in range(runs)]
    return statistics.median(pair[0] for pair in took), statistics.median(pair[1] for pair in took)


def show(figure: Figure) -> None:
    """Print a line."""
    floor = "" if figure.floor is None else f"floor {figure.floor:>12,.1f}  ratio {figure.ratio:.2f}"
    aim = "" if figure.aim is None else f"aim {figure.aim:g}  {'reached' if figure.met else 'NOT REACHED'}"
    peak = "" if figure.peak_mb is None else f"peak {figure.peak_mb:,.0f} MB"
    print(f"{figure.name:<52} {figure.value:>12,.1f} {figure.unit:<9} {floor:<36} {aim}{peak}".rstrip(), flush=True)
