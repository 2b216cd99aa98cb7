"""A framework whose library can't be loaded on this machine."""

import os

os.abort()


class Runtime:
    """Never reached."""
