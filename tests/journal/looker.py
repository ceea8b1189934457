"""A process that looks at a journal: python -m tests.journal.looker FOLDER."""

import sys
from pathlib import Path

from api2db.journal._store import overview

sys.stdout.write(f"{overview(Path(sys.argv[1]))}\n")
