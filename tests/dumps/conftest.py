"""Who writes the dumps here: C that was compiled for it, and Octave. The clips are the project's own, as wavs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import program
from tests.plugins_for_tests import rig

HERE = Path(__file__).parent
STEMS = tuple(Path(name).stem for name in rig.CLIPS)


@pytest.fixture(scope="session")
def wavs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wavs")
    for name in STEMS:
        rig.wav(folder / f"{name}.wav", rig.clip(name))
    return folder


@pytest.fixture(scope="session")
def featurizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled featurizer.c."""
    built = tmp_path_factory.mktemp("built") / "featurizer"
    strict = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")
    subprocess.run([program("gcc", "gcc libc6-dev"), *strict, HERE / "featurizer.c", "-o", built, "-lm"], check=True)
    return built


@pytest.fixture(scope="session")
def octave() -> tuple[str, ...]:
    """The beginning of a command that runs features.m."""
    return (program("octave-cli", "octave"), "--norc", "--no-history", str(HERE / "features.m"))
