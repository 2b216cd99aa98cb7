"""How far a correct implementation may be from the oracle."""
