"""The demo, and the sample API of new projects.

The demo collects four days of New York's departures and weather, recorded, from an API that serves them in accelerated
time. ``_records`` reads the recorded rows, ``_api`` serves them, ``_main`` polls them as a user's project would, and
``show`` runs the demo and compares each target with what was served. ``_sample`` is the sample API.
"""

from api2db.demo._sample import sample_api

__all__ = ["sample_api"]
