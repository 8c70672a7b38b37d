"""Every reader of a user's file on damaged files: what comes out is right, or a ``UserError``."""
