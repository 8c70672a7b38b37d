"""What ``train.py``, ``test.py`` and ``predict.py`` do once their words and configuration are right."""
