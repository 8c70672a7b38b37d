"""Datasets: raw images in, ``data/<name>``, ``lists/<name>`` and ``config/<name>`` out (``python -m prepare``)."""
