"""Journal to target: one worker a stream, in batches that follow the load, exactly once.

``worker`` is the loop: read a batch, have a courier deliver it, back off while the target is unavailable. ``ledger``
is the courier for targets with transactions, ``plan`` the one for files, ``counted`` the one for tables without
transactions whose loads are all or nothing, ``stepped`` the one for those that tell how much of a plan is in,
``override`` the one for a user's own method. ``casting`` has a table follow the data, ``fitting`` finds the rows that
it can't hold, ``rejected`` sets them aside, ``parking`` keeps a copy of the batch whose tries ran out.
"""

from api2db.delivery.counted import CountedCourier
from api2db.delivery.courier import Courier
from api2db.delivery.ledger import LedgerCourier
from api2db.delivery.override import OverrideCourier, OverrideTarget
from api2db.delivery.parking import Parking, ParkingPlace
from api2db.delivery.plan import PlanCourier
from api2db.delivery.rejected import ADDED_COLUMNS, METADATA_KEY, Rejects, without_added
from api2db.delivery.stepped import SteppedCourier
from api2db.delivery.worker import LIMIT, RETRIES, Worker

__all__ = [
    "ADDED_COLUMNS",
    "LIMIT",
    "METADATA_KEY",
    "RETRIES",
    "CountedCourier",
    "Courier",
    "LedgerCourier",
    "OverrideCourier",
    "OverrideTarget",
    "Parking",
    "ParkingPlace",
    "PlanCourier",
    "Rejects",
    "SteppedCourier",
    "Worker",
    "without_added",
]
