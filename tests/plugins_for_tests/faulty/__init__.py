"""Backends and runtimes with a planted fault each."""
