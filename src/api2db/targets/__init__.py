"""Where rows are stored: one package or module for each kind of target, behind the protocols in ``port``.

A target knows nothing of journals. It names the loader that is exact with it: ``"transactional"`` if rows and ledger
are committed together, ``"resumable"`` if it can tell how many rows of a plan are committed, or ``"files"``. ``sql``
has what all SQL databases share, ``_evolve`` how tables follow the data, ``types`` the types of all targets, and
``server`` what is needed to reach a server.
"""
