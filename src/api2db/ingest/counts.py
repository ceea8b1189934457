"""Numbers of things, as a person says them."""


def counted(number: int, thing: str) -> str:
    """A number with its thing: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
