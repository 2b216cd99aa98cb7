"""Model runtimes: one module each."""
