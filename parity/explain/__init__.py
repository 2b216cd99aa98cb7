"""Why: which setting, or pair of settings, explains what a candidate computed.

    explain(frontend, [Evidence(...), ...]) -> Explanation

`catalogue` has the settings as data, `search` tries them on the float64 oracle against the candidate's arrays.
"""

from __future__ import annotations

from parity.explain.explanation import Cause, Causes, Explanation, Finding
from parity.explain.features import explain

__all__ = ["Cause", "Causes", "Explanation", "Finding", "explain"]
