"""The live page of a project, and its metrics: reads the journals' figures, and never writes to a target.

``_documents`` turns figures into JSON documents, ``_app`` serves them with the page in ``static/``, ``_guard`` says who
may ask, ``_feed`` sends changes to all open pages, ``_metrics`` has the figures for Prometheus. The page has no build
step and asks no other host for anything. It runs in a process of its own, so that no reader can slow a delivery.
"""

from api2db.web._serve import serve

__all__ = ["serve"]
