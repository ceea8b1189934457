"""Which worker of a cluster runs which collector: a plan that every worker makes for itself.

All workers plan from the same claims by the same rules, so their plans agree without a coordinator. Where claims were
read at different moments, plans differ, and the cluster lets only one worker take a collector.

A worker's load is the weight of its collectors. A free collector goes to the worker with the smallest load, the
heaviest collector first. A collector that runs moves only if that narrows a gap between two workers that is larger than
a fifth of the mean load.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Final

_GAP: Final = 0.2
USUAL_WEIGHT: Final = 1.0


def spread(
    workers: Collection[str],
    owners: Mapping[str, str | None],
    weights: Mapping[str, float],
    fixed: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Plan which worker runs each collector.

    Args:
        workers: The workers that take work.
        owners: All collectors that any worker may run, each with the worker that runs it; None where it is free.
        weights: The weights of the collectors. One that has not been weighed yet counts as the mean of the others, so
            that nothing moves only because some are weighed first.
        fixed: The weight of what each worker runs besides, and keeps.
    """
    if not workers:
        return {}
    held: dict[str, dict[str, int]] = {worker: {} for worker in sorted(workers)}
    loads = {worker: _units((fixed or {}).get(worker, 0.0)) for worker in held}
    known = [weights[name] for name in sorted(owners) if name in weights]
    usual = sum(known) / len(known) if known else USUAL_WEIGHT
    free = []
    for name in sorted(owners):
        weight, owner = _units(weights.get(name, usual)), owners[name]
        if owner is not None and owner in held:
            held[owner][name] = weight
            loads[owner] += weight
        else:
            free.append((weight, name))
    for weight, name in sorted(free, key=lambda each: (-each[0], each[1])):
        lightest = min(loads, key=lambda worker: (loads[worker], _preference(worker, name)))
        held[lightest][name] = weight
        loads[lightest] += weight
    _even_out(held, loads)
    return {name: worker for worker, names in held.items() for name in names}


def _units(weight: float) -> int:
    """A weight in hundredths: sums of whole numbers don't depend on their order."""
    return round(100 * weight)


def _even_out(held: dict[str, dict[str, int]], loads: dict[str, int]) -> None:
    """Move collectors to the lightest worker; each move makes the heavier one of two workers lighter."""
    least_gap = _GAP * sum(loads.values()) / len(loads)
    while True:
        lightest = min(loads, key=lambda worker: (loads[worker], worker))
        for heavy in sorted(loads, key=lambda worker: (-loads[worker], worker)):
            name = _to_move(held[heavy], loads[heavy] - loads[lightest], least_gap)
            if name is not None:
                weight = held[lightest][name] = held[heavy].pop(name)
                loads[heavy] -= weight
                loads[lightest] += weight
                break
        else:
            return


def _to_move(held: Mapping[str, int], gap: int, least_gap: float) -> str | None:
    """The collector whose move narrows a gap most; None if no move is worth it."""
    fitting = [name for name, weight in held.items() if weight < gap] if gap > least_gap else []
    return min(fitting, key=lambda name: (abs(held[name] - gap / 2), name), default=None)


def _preference(worker: str, name: str) -> bytes:
    """The order of workers with equal loads: another one for each collector."""
    return hashlib.blake2b(f"{worker}/{name}".encode(), digest_size=8).digest()
