"""The page on which photographs are segmented, and its server: ``bash web.sh`` (docs/web.md).

``server`` answers the page, ``guard`` decides whom; ``sessions`` keeps what a browser has given, ``worker``
computes, with the networks of ``choices``.
"""
