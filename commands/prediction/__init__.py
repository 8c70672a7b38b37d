"""What ``predict.py`` does once its words are right."""
