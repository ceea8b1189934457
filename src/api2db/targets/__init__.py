"""Where rows are stored: one package or module for each kind of target, behind the protocols in ``port``.

A target knows nothing of journals. It names the loader that loads exactly once into it: ``"transactional"`` if rows
and ledger are committed together, ``"resumable"`` if the target knows how many rows of a plan are committed, or
``"file"``. ``sql`` has what all SQL databases share, ``_evolve`` the rules by which tables follow the data, ``types``
the types of all targets, and ``server`` the description of a server.
"""
