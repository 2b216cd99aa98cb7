"""A framework that waits for something on import."""

import time

time.sleep(100_000)


class Runtime:
    """Never reached."""
