"""Fake plugins (`faulty`, put on PYTHONPATH for the workers) and what tests of whole runs share (`rig`)."""
