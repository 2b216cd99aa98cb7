"""The published JSON Schemas: current, and what real records are held to."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

from parity.labels import LabelTally
from parity.report import schema

from .made import mixed, run


def strict(of: str) -> Any:
    """The published schema, with every field that it doesn't know refused: the published one lets later ones in."""
    document = json.loads(schema.published(of).read_bytes())
    jsonschema.Draft202012Validator.check_schema(document)
    for definition in document["$defs"].values():
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("of", ["run", "verdict"])
def test_the_published_one_is_current(of: str) -> None:
    assert schema.published(of).read_bytes() == schema.text(of), "type: python -m parity.report.schema"


def test_every_field_with_a_docstring_says_what_it_is() -> None:
    verdict = schema.schema("verdict")["$defs"]["Verdict"]["properties"]
    assert verdict["rule"]["description"] == "derived from the arithmetic, or declared by a policy."
    assert verdict["outcome"]["enum"] == sorted(verdict["outcome"]["enum"])


@pytest.mark.slow
@pytest.mark.xdist_group("real-run")
def test_real_records_validate(real: Path) -> None:
    strict("run").validate(json.loads((real / "run.json").read_bytes()))
    lines = (real / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    check = strict("verdict")
    assert len(lines) > 50
    for line in lines:
        check.validate(json.loads(line))


def test_accuracy_validates() -> None:
    tally = LabelTally()
    for pair, label in (("numpy onnxrt float32", 0), ("numpy tflite int8", 1)):
        tally.add("commands-cnn", pair, "yes/a.wav", np.eye(2)[label], ["yes", "no"])
        tally.add("commands-cnn", pair, "noise/b.wav", np.eye(2)[0], ["yes", "no"])
    of = run(labels=tally.summary(), environment=None, commit={}, timings=[])
    plain = json.loads(msgspec.json.encode(of)) | {"systems": {}}
    del plain["environment"]
    assert plain["labels"]["differ"]
    assert plain["labels"]["ignored"]
    strict("run").validate(plain)


@pytest.mark.parametrize(("key", "value"), [("outcome", "great"), ("ratio", "much"), ("clip", None), ("tapp", "x")])
def test_what_isnt_a_verdict_is_refused(key: str, value: object) -> None:
    right = json.loads(msgspec.json.encode(mixed().summaries[0].worst))
    check = strict("verdict")
    check.validate(right)
    with pytest.raises(jsonschema.ValidationError):
        check.validate(copy.deepcopy(right) | {key: value})
