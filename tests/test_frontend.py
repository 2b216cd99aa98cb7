from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity import frontend as fe
from parity.backends import reference
from parity.testing import RECIPES, frontends

FULL = fe.Frontend(
    input=fe.Input(rate=16000, length=16000),
    frame=fe.Frame(length=400, hop=160),
    window=fe.Window(name="hann"),
    spectrum=fe.Spectrum(n_fft=512),
    filterbank=fe.Mel(bands=40, fmax=8000.0, scale="htk", norm="none"),
    compress=fe.Log(base="e", offset=1e-6),
    cepstrum=fe.Cepstrum(count=13),
    normalize=fe.Normalize(mean=(0.0,), spread=(1.0,)),
    quantize=fe.Quantize(dtype="int8", scale=0.5),
)
OTHERS = {"filterbank": fe.Pool(size=6), "compress": fe.Decibel(), "micro": fe.Micro(length=480, hop=320, bands=40)}


def another(value: Any, hint: Any) -> Any:
    """A value of a field that is not `value`."""
    literals = [
        a for h in (hint, *get_args(hint)) for a in get_args(h) if isinstance(a, str | int) and not isinstance(a, type)
    ]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str) and literals:
        return next(a for a in literals if a != value)
    if isinstance(value, tuple):
        return (*value, 2.0)
    if value is None:
        return 7
    return value + 1 if value != 2 or 1 not in literals else 1


def changes() -> dict[str, fe.Frontend]:
    """`stage.kind.field` -> the full recipe with that one setting changed."""
    found = {}
    for name in fe.STAGES:
        for stage in filter(None, (getattr(FULL, name), OTHERS.get(name))):
            hints = get_type_hints(type(stage))
            for f in dataclasses.fields(stage):
                value = another(getattr(stage, f.name), hints[f.name])
                changed = dataclasses.replace(stage, **{f.name: value})
                found[f"{name}.{stage.kind}.{f.name}"] = dataclasses.replace(FULL, **{name: changed})
    return found


def test_every_field_of_every_stage_changes_the_digest() -> None:
    every = {kind for kinds in fe.STAGES.values() for kind in kinds}
    assert {type(s) for s in (*FULL.stages().values(), *OTHERS.values())} == every, "a kind of stage isn't tried"
    digests = {"as it is": FULL.digest, **{name: f.digest for name, f in changes().items()}}
    digests |= {f"{n}.{s.kind}": dataclasses.replace(FULL, **{n: s}).digest for n, s in OTHERS.items()}
    digests |= {
        f"no {n}": dataclasses.replace(FULL, **{n: None}).digest
        for n in fe.STAGES
        if getattr(FULL, n) and n not in fe.REQUIRED
    }
    assert len(set(digests.values())) == len(digests), "two recipes have one digest"


def test_the_digest_is_what_it_was() -> None:
    # Goldens are found by it: a change here makes every golden in the field unreadable.
    assert RECIPES["commands-cnn"].digest == "c8b2e89f34a271e0" + RECIPES["commands-cnn"].digest[16:]


def test_the_digest_knows_neither_order_nor_int_from_float() -> None:
    backwards = {k: dict(reversed(v.items())) for k, v in reversed(fe.to_plain(FULL).items())}
    assert fe.from_plain(backwards).digest == FULL.digest
    ints = dataclasses.replace(
        FULL,
        filterbank=fe.Mel(bands=40, fmin=0, fmax=8000, scale="htk", norm="none"),
        normalize=fe.Normalize(mean=(0,), spread=(1,)),
    )
    assert ints.digest == FULL.digest
    ref = [dataclasses.replace(FULL, compress=fe.Decibel(ref=r, top_db=t)).digest for r, t in ((1, 80), (1.0, 80.0))]
    assert ref[0] == ref[1]


@given(frontends())
def test_plain_goes_through_json_and_back(frontend: fe.Frontend) -> None:
    again = fe.from_plain(json.loads(json.dumps(fe.to_plain(frontend))))
    assert again == frontend
    assert again.digest == frontend.digest


def test_stages_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.frame.hop = 1  # type: ignore[misc]


@st.composite
def framings(draw: st.DrawFn) -> fe.Frontend:
    frame = fe.Frame(
        length=draw(st.integers(1, 40)), hop=draw(st.integers(1, 50)), center=draw(st.booleans()),
        pad_mode=draw(st.sampled_from(("zero", "reflect", "edge"))), last=draw(st.sampled_from(("drop", "pad"))),
    )  # fmt: skip
    whole = fe.Input(rate=100, length=draw(st.none() | st.integers(1, 200)))
    return dataclasses.replace(FULL, input=whole, frame=frame)


@given(framings(), st.integers(1, 200))
def test_frames_are_counted_as_the_oracle_makes_them(frontend: fe.Frontend, samples: int) -> None:
    x = reference.stage(frontend, "features/audio", np.arange(float(samples)))
    assert x.shape == (frontend.samples(samples),)
    made = reference.stage(frontend, "features/frames", x)
    assert made.shape == (frontend.frames(samples), frontend.frame.length)


@given(frontends().filter(lambda f: f.spectrum is not None))
def test_bins_and_bands_are_counted_as_the_oracle_makes_them(frontend: fe.Frontend) -> None:
    taps = reference.run(frontend, np.linspace(-1.0, 1.0, 1234))
    assert taps["features/spectrum"].shape[1] == frontend.bins
    assert taps[frontend.output].shape == (frontend.frames(1234), frontend.bands)
    assert frontend.dtype(frontend.output) == (frontend.quantize.dtype if frontend.quantize else "float32")


def test_a_second_of_the_reference_systems_gives_the_frames_they_publish() -> None:
    found = {name: RECIPES[name].frames(16000) for name in ("commands-cnn", "mel40", "mfcc", "tiny-conv", "logmel")}
    assert found == {"commands-cnn": 98, "mel40": 32, "mfcc": 32, "tiny-conv": 49, "logmel": 97}
