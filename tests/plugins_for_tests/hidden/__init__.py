"""Defects that clips of one second, recorded at a usual level, don't show: what a search is for."""
