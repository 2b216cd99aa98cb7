"""Mutation testing of what judges: `make mutants`."""
