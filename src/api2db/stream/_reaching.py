"""The attempt to reach a target, for ``connect``: a failure is logged, not raised."""

import logging
from collections.abc import Callable

from api2db.errors import MissingExtraError, TargetError

logger = logging.getLogger(__name__)


def reached(log_str: str, reach: Callable[[], object]) -> bool:
    """Try to reach the target, and return whether it was reached; if not, log the stream and the reason."""
    try:
        reach()
    except (TargetError, MissingExtraError) as error:
        logger.warning("%s can't be reached: %s", log_str, error)
        return False
    return True
