"""Feature backends: one module each."""
