"""Where rows land: a room a target, all behind the Protocols of ``port``.

A target knows nothing of journals. It either commits rows and ledger in one transaction (``LedgerTarget``), or says
what it is about to do before it does it (``PlannedTarget``). ``sql`` holds what all SQL databases share; a database's
own package holds its connection, its session, its bulk path, and which of its errors mean what. ``types`` has the types
of them all, ``server`` what it takes to reach one, ``files`` the target that is no database.
"""
