"""What makes two environments one: what is in an identity, and what isn't."""

from __future__ import annotations

from typing import Any

import pytest

from parity import provenance

PLUGINS = {"librosa": {"librosa": "0.11.0", "numpy": "2.4.6"}, "onnxrt": {"onnxruntime": "1.31.1", "python": "3.11.7"}}


def made(**more: Any) -> dict[str, Any]:
    found = provenance.environment(PLUGINS)
    return found | {"cpu": found["cpu"] | more.pop("cpu", {})} | more


def fingerprint(**more: Any) -> str:
    return provenance.fingerprint(provenance.identity(made(**more)))


def test_threads_cores_and_parity_itself_make_no_other_environment() -> None:
    assert fingerprint(threads=8, parity="99", cpu={"cores": 64}) == fingerprint()
    assert provenance.environment(PLUGINS)["fingerprint"] == fingerprint()
    options = {"librosa": PLUGINS["librosa"], "onnxrt:opt=off": PLUGINS["onnxrt"], "onnxrt": PLUGINS["onnxrt"]}
    assert fingerprint(plugins=options) == fingerprint()


@pytest.mark.parametrize(
    "change",
    [{"cpu": {"model": "Another"}}, {"cpu": {"architecture": "aarch64"}}, {"cpu": {"features_sha256": "0"}},
     {"os": "Darwin"}, {"python": "3.13.0"}, {"numpy": "1.26.4"},
     {"plugins": PLUGINS | {"onnxrt": {"onnxruntime": "1.32"}}}, {"plugins": {"librosa": PLUGINS["librosa"]}}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_may_change_a_number_does(change: dict[str, Any]) -> None:
    assert fingerprint(**change) != fingerprint()


def test_an_emulated_cpu_and_another_execution_provider_are_other_environments() -> None:
    real, played = made(), made(emulated=True)
    assert provenance.differences(*map(provenance.identity, (real, played))) == ["CPU real -> emulated"]
    with_it = [made(plugins={"onnxrt": PLUGINS["onnxrt"] | {provenance.PROVIDER: p}}) for p in ("CPU", "ACL")]
    assert provenance.differences(*map(provenance.identity, with_it)) == ["execution provider CPU -> ACL"]
    # A baseline from before it was recorded still holds.
    assert provenance.differences(*map(provenance.identity, (made(), with_it[0]))) == []


def test_only_the_plugins_that_were_used_count() -> None:
    of = provenance.identity(made(), {"librosa"})
    assert of["plugins"] == {"librosa": {"librosa": "0.11.0"}}


def test_a_library_that_came_or_went_is_told_but_not_a_plugin() -> None:
    was = provenance.identity(made())
    more = provenance.identity(made(plugins=PLUGINS | {"tflite": {"ai-edge-litert": "2.3"}}))
    assert provenance.differences(was, more) == []
    other = provenance.identity(made(plugins=PLUGINS | {"librosa": {"librosa": "0.11.0", "scipy": "1.17"}}))
    assert provenance.differences(was, other) == ["scipy none -> 1.17"]
