"""Nothing that a far side says is used before its form was looked at."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parity.targets import answers
from parity.targets.wire import WireError

X = np.zeros((2, 3), np.float32)
RUN = {"do": "run", "taps": [["model/logits"]]}
GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"do": "load"}, {"versions": {"numpy": "2"}}),
    ({"do": "describe", "questions": [1, 2]}, {"answers": [{"unsupported": "no"}, {"taps": ["a"]}]}),
    ({"do": "features", "taps": ["features/audio"]}, {"clips": [{"taps": {"features/audio": X}, "seconds": 0.1}]}),
    ({"do": "open"}, {"seconds": 1}),
    (RUN, {"unsupported": "takes 98 frames"}),
    (RUN, {"taps": {"model/logits": X}, "raw": {}, "seconds": 0.0}),
    (RUN, {"taps": {"model/logits": X}, "seconds": 0.0,
           "raw": {"model/logits": {"integers": X.astype(np.int8), "scale": 0.5, "zero_point": 3}}}),
    ({"do": "stream", "taps": [["model/logits"]]},
     {"taps": {"model/logits": X}, "raw": {}, "seconds": 0.0, "state": {"h": X}}),
    ({"do": "memory"}, {"peak_bytes": 12}),
    ({"do": "memory"}, {"peak_bytes": None}),
    ({"do": "close"}, {}),
]  # fmt: skip
BAD: list[tuple[dict[str, Any], Any]] = [
    ({"do": "load"}, {"versions": {"numpy": 2}}),
    ({"do": "load"}, {}),
    ({"do": "load"}, None),
    ({"do": "load"}, [1]),
    ({"do": "describe", "questions": [1, 2]}, {"answers": [{"taps": []}]}),
    ({"do": "describe", "questions": [1]}, {"answers": [{"taps": "abc"}]}),
    ({"do": "describe", "questions": [1]}, {"answers": [{"taps": [], "arithmetic": "float8"}]}),
    ({"do": "features", "taps": ["features/audio"]}, {"clips": [{"taps": {"features/frames": X}, "seconds": 0.1}]}),
    ({"do": "features", "taps": ["features/audio"]}, {"clips": [{"taps": {"features/audio": [0]}, "seconds": 0.1}]}),
    ({"do": "features", "taps": ["features/audio"]}, {"clips": {"0": 1}}),
    ({"do": "open"}, {"seconds": float("nan")}),
    ({"do": "open"}, {"seconds": -1}),
    ({"do": "open"}, {"seconds": True}),
    ({"do": "open"}, {"seconds": 10**400}),
    ({"do": "open"}, {"seconds": 1e308}),
    (RUN, {"taps": {"../../etc/passwd": X}, "raw": {}, "seconds": 0.0}),
    (RUN, {"taps": {"model/logits": X}, "seconds": 0.0}),
    (RUN, {"taps": {"model/logits": X}, "seconds": 0.0, "raw": {"model/logits": {"integers": X}}}),
    (RUN, {"taps": {"model/logits": X}, "seconds": 0.0,
           "raw": {"model/logits": {"integers": X, "scale": 0.5, "zero_point": 3}}}),
    (RUN, {"taps": {"model/logits": X}, "seconds": 0.0,
           "raw": {"model/logits": {"integers": np.zeros(9, np.int8), "scale": 0.5, "zero_point": 3}}}),
    ({"do": "stream", "taps": [[]]}, {"taps": {}, "raw": {}, "seconds": 0.0, "state": [X]}),
    ({"do": "memory"}, {"peak_bytes": "much"}),
    ({"do": "memory"}, {"peak_bytes": -5}),
    ({"do": "close"}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "answer"), GOOD)
def test_what_a_worker_answers_is_taken(request_: dict[str, Any], answer: dict[str, Any]) -> None:
    assert answers.reply(request_, answer) == answer


@pytest.mark.parametrize(("request_", "answer"), BAD)
def test_what_has_another_form_is_refused(request_: dict[str, Any], answer: Any) -> None:
    with pytest.raises(WireError, match=r"no answer to|no table of texts"):
        answers.reply(request_, answer)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(X),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["taps", "raw", "seconds", "clips", "answers", "versions", "state"]), inner)
    ),
)


@given(st.sampled_from([r for r, _ in GOOD]), ANY)
@example({"do": "memory"}, X)
def test_whatever_comes_is_an_answer_or_refused(request_: dict[str, Any], answer: Any) -> None:
    with contextlib.suppress(WireError):
        answers.reply(copy.deepcopy(request_), answer)


def test_texts_lose_what_terminals_obey() -> None:
    told = answers.plain({"versions": {"a\x1b[2J": "1.0\x07"}, "x": ["\u202eabc", "\n"], "long": "a" * 9000, "n": X})
    assert told["versions"] == {"a\ufffd[2J": "1.0\ufffd"}
    assert told["x"] == ["\ufffdabc", "\n"]
    assert len(told["long"]) < 5000
    assert told["n"] is X


@pytest.mark.parametrize("spoilt", ["cpu", "python", "system", "numpy"])
def test_facts_of_a_machine_are_facts(spoilt: str) -> None:
    from parity.targets import machine

    facts = machine.facts() | {"numpy": np.__version__}
    assert answers.machine(facts) == facts
    with pytest.raises(WireError):
        answers.machine({k: v for k, v in facts.items() if k != spoilt})
    with pytest.raises(WireError):
        answers.machine(facts | {spoilt: 3})
    with pytest.raises(WireError):
        answers.machine(facts | {"memory_bytes": "lots"})


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 10**400])
def test_a_number_that_no_machine_has_is_refused(number: int) -> None:
    with pytest.raises(WireError, match=r"a number of [0-9]+ bits"):
        answers.plain({"raw": [{"zero_point": number}]})
    assert answers.plain([(1 << 63) - 1, True]) == [(1 << 63) - 1, True]
