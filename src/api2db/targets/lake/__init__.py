"""What tables of lakes share: their columns follow the data, and each commit has the ledger of its stream.

A lake keeps a table as files, of which a log or a catalogue says which ones are its newest version. ``_target`` is what
delivery sees, ``_values`` puts rows into the types that files have, ``_reading`` looks through the rows that are there.
``LakeTable`` is what a kind of lake adds.
"""

from api2db.targets.lake._reading import is_empty, is_exact_as_float, newest_rows
from api2db.targets.lake._target import UNDECIDED, LakeTable, LakeTarget, LedgerEntry

__all__ = ["UNDECIDED", "LakeTable", "LakeTarget", "LedgerEntry", "is_empty", "is_exact_as_float", "newest_rows"]
