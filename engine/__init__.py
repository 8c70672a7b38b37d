"""Training and evaluation loops, and what they need: schedule, optimizers, metrics, checkpoints, reports.

``train.py`` and ``test.py`` import the same ``engine.evaluate``.
"""
