"""A gateway of 200 sensors, each with a reading a second."""

import math
import time
from functools import cache

from api2db.testing import ApiServer, Call, Reply

NEWEST = 5


@cache
def url() -> str:
    """Serve the gateway on a free port until this process ends; return the address."""
    return ApiServer(answer).url


def answer(call: Call) -> Reply:
    """Answer ``GET /sensors/N/readings?after=…``: the readings after this time in seconds, or the newest ones."""
    sensor, now = int(call.path.split("/")[2]), int(time.time())
    first = int(call.params.get("after", now - NEWEST)) + 1
    return Reply([reading(sensor, at) for at in range(first, now + 1)])


def reading(sensor: int, at: int) -> dict[str, object]:
    """Return what a sensor measured in a second."""
    return {"sensor": sensor, "measured_at": at, "celsius": round(20 + 5 * math.sin(at / 600 + sensor), 3)}
