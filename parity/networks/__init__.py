"""Networks in float64: a graph run operation by operation, so that each one's rounding can be imitated."""
