"""An exchange: twenty trades a second, computed from their number, so every process sees the same ones."""

import math
import time

RATE = 20
SYMBOLS = ("AAA", "BBB", "CCC")


def trades_after(number: int) -> list[dict[str, object]]:
    """Return the trades after this one, at most those of the last minute."""
    newest = int(time.time() * RATE)
    return [trade(each) for each in range(max(number + 1, newest - 60 * RATE), newest + 1)]


def trade(number: int) -> dict[str, object]:
    """Return the trade with a number."""
    symbol = number % len(SYMBOLS)
    price = round(100 * (symbol + 1) + 5 * math.sin(number / 200 + symbol), 2)
    return {"number": number, "symbol": SYMBOLS[symbol], "price": price, "traded_at": number / RATE}
