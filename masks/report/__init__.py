"""How good pseudo masks are: ``python -m masks.report``."""
