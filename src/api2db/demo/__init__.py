"""The demo: four days of New York's departures and weather, recorded, and served as an API in accelerated time.

``_records`` reads the recorded rows, ``_api`` serves them, ``_main`` polls them as a user's project would, and
``_show`` runs the demo and compares each target with what was served.
"""
