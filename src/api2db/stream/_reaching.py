"""What the spec's ``connect`` does: it tries, and where that fails the log says why."""

import logging
from collections.abc import Callable

from api2db.errors import MissingExtraError, TargetError

logger = logging.getLogger(__name__)


def reached(log_str: str, reach: Callable[[], object]) -> bool:
    """Try it, and say whether the target was reached; where not, the log names the stream and the reason."""
    try:
        reach()
    except (TargetError, MissingExtraError) as error:
        logger.warning("%s can't be reached: %s", log_str, error)
        return False
    return True
