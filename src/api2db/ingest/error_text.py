"""Text for errors of users' code: one line, without secrets."""

import traceback
from pathlib import Path

from api2db.redaction import redact

_LONGEST = 500


def describe_error(error: BaseException) -> str:
    """Describe an error on one line: its class, its message without secrets, and where it was raised."""
    said = " ".join(redact(str(error)).split())
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    return f"{type(error).__name__}{f': {said}' if said else ''}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return the innermost line outside of libraries, which is the one that a user can fix."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_foreign(frame.filename)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""


def _is_foreign(file: str) -> bool:
    path = Path(file)
    ours = Path(__file__).parents[1]
    library = Path(traceback.__file__).parent
    return ours in path.parents or library in path.parents or "site-packages" in path.parts or file.startswith("<")
