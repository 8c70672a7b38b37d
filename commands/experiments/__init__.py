"""``experiments.sh``: all trainings and tests that compare the methods, and their tables and figure.

``request`` reads what is asked for, ``methods`` says what is compared, ``runs`` which commands that takes,
``estimates`` how long they take and ``scheduling`` in which order they run. ``run_processes`` runs them, ``records``
knows what is finished, ``comparison`` reads the tests, ``tables`` and ``figure`` write them.
"""
