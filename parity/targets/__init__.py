"""Where jobs run: this machine's worker processes, and the far side of any target."""
