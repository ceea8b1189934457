"""What tables of lakes share: their columns follow the data, and each commit has the ledger of its stream.

A lake keeps a table as files, of which a log or a catalogue says which ones are its newest version. ``_target`` is what
delivery sees, ``_values`` puts rows into the types that files have. ``LakeTable`` is what a kind of lake adds.
"""

from api2db.targets.lake._target import UNDECIDED, LakeTable, LakeTarget, LedgerEntry
from api2db.targets.lake._values import read_back, stored

__all__ = ["UNDECIDED", "LakeTable", "LakeTarget", "LedgerEntry", "read_back", "stored"]
