"""TensorFlow's signal ops: the conformance suite, that they do the work, and what TensorFlow does otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import numpy as np
import pytest
import scipy.fft
import tensorflow as tf

from parity import frontend as fe
from parity import registry
from parity.backends import reference
from parity.protocols import Unsupported
from parity.testing import RECIPES, SOUNDS, BackendConformance


class TestTfSignalConformance(BackendConformance):
    spec = "tf_signal"
    batch_bits = False  # its matrix product sums a batch in another order than a clip


def test_numpy_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("tf_signal called NumPy, SciPy or the oracle")

    backend, frontend = registry.create("backend", "tf_signal"), RECIPES["commands-cnn"]
    for module, names in (
        (np.fft, ("fft", "rfft")), (scipy.fft, ("rfft", "dct")), (np, ("log", "log10", "dot", "matmul", "einsum")),
        (reference, ("stage", "frames", "window", "spectrum", "mel_bank", "compress", "dct_matrix")),
    ):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    (got,) = backend.features(SOUNDS[:1], frontend, frozenset({frontend.output}))
    assert got[frontend.output].shape == (98, 50)


def test_a_periodic_window_of_odd_length_is_refused_because_tensorflow_makes_it_symmetric() -> None:
    np.testing.assert_array_equal(tf.signal.hann_window(401, periodic=True), tf.signal.hann_window(401, periodic=False))
    odd = dataclasses.replace(RECIPES["tf.signal"], frame=fe.Frame(length=401, hop=160))
    assert isinstance(registry.create("backend", "tf_signal").supports(odd), Unsupported)


@pytest.mark.parametrize("spectrum", [fe.Spectrum(n_fft=512, nyquist=False), fe.Spectrum(n_fft=513)])
def test_tensorflows_own_bank_needs_a_last_bin_at_nyquist(spectrum: fe.Spectrum) -> None:
    recipe = dataclasses.replace(RECIPES["tf.signal"], spectrum=spectrum)
    assert isinstance(registry.create("backend", "tf_signal").supports(recipe), Unsupported)


def test_average_pooling_that_would_start_before_the_first_bin_is_refused() -> None:
    backend, tiny = registry.create("backend", "tf_signal"), RECIPES["tiny-conv"]
    for size, missing in ((6, 1), (5, 3)):
        pool = fe.Pool(size=size)
        theirs = tf.nn.avg_pool1d(tf.reshape(tf.range(257.0), [1, 257, 1]), size, size, "SAME")[0, :, 0].numpy()
        same = np.allclose(theirs, reference.pool_bank(pool, 257) @ np.arange(257.0))
        assert same == (missing <= 1)
        assert (backend.supports(dataclasses.replace(tiny, filterbank=pool)) is None) == same


def test_the_oracles_bank_in_mel_is_tensorflows() -> None:
    theirs = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 4000.0, dtype=tf.float64).numpy().T
    mel = RECIPES["tf.signal"].filterbank
    assert isinstance(mel, fe.Mel)
    np.testing.assert_allclose(reference.mel_bank(mel, 16000, 512, 257), theirs, rtol=0, atol=1e-12)


def test_the_oracles_cepstrum_with_c0_times_sqrt_2_is_tensorflows() -> None:
    x = np.random.default_rng(0).normal(size=(5, 40))
    theirs = tf.signal.mfccs_from_log_mel_spectrograms(tf.constant(x)).numpy()
    ours = x @ reference.dct_matrix(fe.Cepstrum(count=40, norm="ortho-c0-sqrt2"), 40).T
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_pooling_that_lacks_bins_is_refused_whatever_comes_after_it() -> None:
    """A cepstrum of one coefficient hides how many groups there are."""
    from parity.backends.tf_signal import TfSignalBackend

    recipe = fe.Frontend(
        input=fe.Input(rate=16000), frame=fe.Frame(length=512, hop=160), window=fe.Window(name="hann"),
        spectrum=fe.Spectrum(n_fft=512, nyquist=False), filterbank=fe.Pool(size=6),
        compress=fe.Log(base="e", offset=1e-6), cepstrum=fe.Cepstrum(count=1),
    )  # fmt: skip
    found = TfSignalBackend().supports(recipe)
    assert found is not None
    assert "pooling" in found.reason
