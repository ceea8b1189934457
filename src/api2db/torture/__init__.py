"""``api2db torture``: faults against a user's own target, and a check that the promise held.

``run.py`` injects the faults, one a round, and counts what the target has at the end. ``scratch.py`` has the targets,
``proxy.py`` the network between, ``_server.py`` a server that may be killed. ``fork_server.py`` starts the processes
that put and deliver, ``jobs.py`` is what they do, and ``rows.py`` the rows, each of which proves itself. ``checker.py``
judges what ``clients.py`` reads with the databases' own client libraries; these three share no code with delivery.
"""
