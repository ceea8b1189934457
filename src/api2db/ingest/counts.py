"""Text for a number of things."""


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
