"""What the reference models' training scripts share: labels, splits by speaker, batches, and the loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from parity import system, training  # noqa: E402 - they need torch
from tests.plugins_for_tests import rig  # noqa: E402

LABELS = ("unknown", "silence", "yes", "no")


@pytest.mark.parametrize(
    ("word", "labels", "label"),
    [
        ("yes", LABELS, 2), ("_unknown_", LABELS, 0), ("_silence_", LABELS, 1), ("wow", LABELS, 0),
        ("_background_noise_", LABELS, None), ("_silence_", ("unknown", "yes"), None), ("wow", ("yes", "no"), None),
    ],
)  # fmt: skip
def test_a_folder_stands_for_a_label_or_is_left_out(word: str, labels: tuple[str, ...], label: int | None) -> None:
    assert training.label_of(word, labels) == label


@pytest.mark.parametrize(
    ("name", "speaker"),
    [("a591c2ea_nohash_0.wav", "a591c2ea"), ("wow_a591c2ea_nohash_3.flac", "a591c2ea"), ("1041.flac", "1041.flac")],
)
def test_the_speaker_is_in_the_name(name: str, speaker: str) -> None:
    assert training.speaker_of(name) == speaker


def test_a_speaker_falls_into_one_split_and_most_train() -> None:
    splits = [training.split_of(f"{i:08x}") for i in range(2000)]
    assert [round(splits.count(s) / 2000, 1) for s in training.SPLITS] == [0.7, 0.1, 0.2]
    assert training.split_of("a591c2ea") == training.split_of("a591c2ea")


def test_batches_hold_one_shape_each_and_every_input_once() -> None:
    inputs = [torch.full((n, 2), float(i)) for i, n in enumerate([3, 4, 3, 3, 4, 3])]
    made = list(training.batches(inputs, [5, 4, 3, 2, 1, 0], 3))
    assert [members for _, members in made] == [[5, 3, 2], [0], [4, 1]]
    for x, members in made:
        assert [int(row[0, 0]) for row in x] == members


def speech(folder: Path) -> Path:
    """Four speakers a word, so that each split has somebody: tones for yes, noise for no."""
    speakers = {s: next(f"{i:08x}" for i in range(99) if training.split_of(f"{i:08x}") == s) for s in training.SPLITS}
    rng = np.random.default_rng(0)
    for word, tone in (("yes", 0.3), ("no", 0.0)):
        (folder / word).mkdir(parents=True)
        for speaker in speakers.values():
            for n in range(3):
                x = tone * np.sin(np.arange(16_000) * (0.1 + 0.02 * n)) + 0.01 * rng.standard_normal(16_000)
                soundfile.write(folder / word / f"{speaker}_nohash_{n}.wav", x.astype(np.float32), 16_000)
    return folder


class Tiny(torch.nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(50, 11)

    def forward(self, x: object) -> object:
        return self.fc(x.mean(dim=(1, 2)))  # type: ignore[attr-defined]


def run(folder: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    how = training.Training(folder=folder, build=Tiny, augment=lambda x, _: x[::-1].copy(), layout="N1TF", batch=4)
    monkeypatch.setattr("sys.argv", ["train.py", "--data", str(data), "--out", str(out), *more])
    training.main(how)


def test_the_same_seed_gives_the_same_weights_and_a_record_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = rig.system(tmp_path / "system"), speech(tmp_path / "data")
    files = [tmp_path / name / "w.safetensors" for name in ("a", "b", "c")]
    for file, seed in zip(files, "001", strict=True):
        file.parent.mkdir()
        run(folder, data, file, monkeypatch, "--epochs", "2", "--copies", "1", "--seed", seed, "--threads", "1")
    first, again, other = (f.read_bytes() for f in files)
    assert first == again
    assert first != other
    record = json.loads(files[0].with_name("training.json").read_text())
    assert record["clips"] == {"train": 6, "validation": 6, "held_out": 6}
    assert record["weights_sha256"] == json.loads(files[1].with_name("training.json").read_text())["weights_sha256"]
    assert record["labels"] == list(system.load(folder).labels)


def test_a_folder_without_clips_of_a_split_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "yes").mkdir(parents=True)
    with pytest.raises(SystemExit):
        run(rig.SYSTEM, tmp_path / "data", tmp_path / "w", monkeypatch)
    assert "0 clips found, none of them in the split 'train'" in capsys.readouterr().err


def test_held_out_speakers_are_laid_out_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = speech(tmp_path / "data")
    run(rig.SYSTEM, data, tmp_path / "w", monkeypatch, "--held-out-folder", str(tmp_path / "held"))
    names = [p.name for p in sorted((tmp_path / "held").glob("*/*.wav"))]
    assert len(names) == 6
    assert {training.split_of(training.speaker_of(n)) for n in names} == {"held_out"}
    assert not (tmp_path / "w").exists()


def test_classes_count_alike_where_they_are_balanced() -> None:
    class Says(torch.nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: object) -> object:
            return x

    # Three clips of class 0, all right; one of class 2, wrong; none of class 1.
    inputs = [torch.tensor([2.0, 0.0, 0.0])] * 4
    of = training.Examples([inputs], torch.tensor([0, 0, 0, 2]))
    assert training.evaluate(Says(), of)[0] == pytest.approx(0.75)
    assert training.evaluate(Says(), of, balanced=True)[0] == pytest.approx(0.5)
    assert training.class_weights(of.classes, 3).tolist() == pytest.approx([2 / 3, 2.0, 2.0])
