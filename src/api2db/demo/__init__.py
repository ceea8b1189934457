"""The demo: four days of New York's departures and weather, served as an API in accelerated time.

``records`` reads the slice, ``api`` answers with it, ``server`` puts that behind a port, ``collectors`` polls it as a
user's project would.
"""
