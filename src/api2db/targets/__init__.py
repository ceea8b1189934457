"""Where rows land: one module a target, all behind the Protocols of ``port``.

A target knows nothing of journals. It either commits rows and ledger in one transaction (``LedgerTarget``), or says
what it is about to do before it does it (``PlannedTarget``). ``sql`` holds what all SQL databases share; a database's
own module holds its connection, its types, its bulk path, and which of its errors mean what.
"""
