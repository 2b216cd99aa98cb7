"""Train commands-cnn on a folder like Speech Commands: ``DIR/<word>/<speaker>_nohash_<n>.wav`` (or .flac).

python train.py --data DIR                          trains; writes weights.safetensors and training.json
python train.py --data DIR --held-out-folder OUT    only lays out the clips of speakers never trained on
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import rich.progress
import safetensors.torch
import soundfile
import torch
from model import BANDS, FRAMES, LABELS, CommandsCNN, build
from numpy.typing import NDArray
from torch import Tensor, nn

from parity import system
from parity.backends.librosa_ import LibrosaBackend
from parity.protocols import Clip

RATE = 16_000  # Hz
SKIPPED = {"_silence_", "_background_noise_"}
SPLITS = ("train", "validation", "held_out")
BATCH = 64

HERE = Path(__file__).resolve().parent
# The recipe is read, not written again: what is trained is what is deployed.
SYSTEM, BACKEND = system.load(HERE), LibrosaBackend()
Float32 = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Recording:
    """One clip on disk: its class number, its speaker, and the split the speaker falls into."""

    path: Path
    word: str
    label: int
    speaker: str
    split: str


def split_of(speaker: str) -> str:
    """Return the split of a speaker: 70 % train, 10 % validation, 20 % held out; the same everywhere."""
    share = int.from_bytes(hashlib.sha1(speaker.encode()).digest()[:8], "big") / 2**64
    return "train" if share < 0.7 else "validation" if share < 0.8 else "held_out"


def speaker_of(name: str) -> str:
    """Return the speaker named by a file: ``a591c2ea`` for ``a591c2ea_nohash_0.wav``; else the name itself.

    A folder that mixes words puts the word before the speaker (``wow_a591c2ea_nohash_0.wav``): it is cut off,
    or the same voice would land in two splits.
    """
    before, mark, _ = name.partition("_nohash_")
    return before.rpartition("_")[2] if mark else name


def recordings(data: Path) -> list[Recording]:
    """List the clips of every word folder, sorted by path. Words outside the labels count as ``unknown``."""
    found = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir() and p.name not in SKIPPED):
        label = LABELS.index(folder.name) if folder.name in LABELS else LABELS.index("unknown")
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in {".wav", ".flac"}):
            speaker = speaker_of(path.name)
            found.append(Recording(path, folder.name, label, speaker, split_of(speaker)))
    return found


def read(path: Path) -> Float32:
    """Read a mono clip at 16 kHz as float32 samples at full scale ±1.0, ``[samples]``."""
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != RATE or samples.ndim != 1:
        raise SystemExit(f"{path}: needs mono at {RATE} Hz, has {samples.ndim} axes at {rate} Hz")
    return np.asarray(samples, dtype=np.float32)


def features(samples: Float32) -> Float32:
    """Return the features ``[98, 50]`` (frame, band) that system.toml describes, as librosa computes them."""
    (taps,) = BACKEND.features([Clip("", samples, RATE, "")], SYSTEM.frontend, frozenset({SYSTEM.frontend.output}))
    return np.asarray(taps[SYSTEM.frontend.output], dtype=np.float32)


def augmented(samples: Float32, rng: np.random.Generator) -> Float32:
    """Return the clip shifted by up to ±1600 samples, scaled by 0.5 to 1.3, with a little white noise."""
    shift = int(rng.integers(-1600, 1601))
    shifted = np.zeros_like(samples)
    if shift >= 0:
        shifted[shift:] = samples[: len(samples) - shift]
    else:
        shifted[:shift] = samples[-shift:]
    noise = rng.standard_normal(len(samples), dtype=np.float32) * np.float32(10 ** rng.uniform(-5, -2.3))
    return np.clip(shifted * np.float32(rng.uniform(0.5, 1.3)) + noise, -1.0, 1.0)


def tensors(clips: list[Recording], copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return features ``[1 + copies, clips, 1, 98, 50]`` (the first as recorded), classes ``[clips]``."""
    out = np.empty((1 + copies, len(clips), 1, FRAMES, BANDS), dtype=np.float32)
    for index, clip in enumerate(progress(clips, f"features of {len(clips)} clips")):
        samples = read(clip.path)
        out[0, index, 0] = features(samples)
        rng = np.random.default_rng([seed, index])
        for variant in range(1, 1 + copies):
            out[variant, index, 0] = features(augmented(samples, rng))
    return torch.from_numpy(out), torch.tensor([clip.label for clip in clips])


def progress(items: Iterable[T], what: str) -> Iterator[T]:
    """Show a progress bar on a terminal, and one plain line elsewhere."""
    if sys.stdout.isatty():
        yield from rich.progress.track(list(items), description=what)
    else:
        print(what, flush=True)
        yield from items


@torch.inference_mode()
def evaluate(network: CommandsCNN, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return accuracy (0 to 1) and mean cross-entropy (nats) of the network in eval mode."""
    network.eval()
    logits = torch.cat([network(part) for part in x.split(256)])
    return (logits.argmax(1) == y).float().mean().item(), nn.functional.cross_entropy(logits, y).item()


def fit(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], epochs: int, seed: int
) -> tuple[CommandsCNN, int]:
    """Train, and return the network of the epoch that did best on the validation speakers, with that epoch.

    ``train`` holds features ``[variants, clips, 1, 98, 50]``; every epoch draws one variant of each clip.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    variants, labels = train
    count, clips = variants.shape[:2]
    network = build()
    steps = epochs * -(-clips // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    best, best_epoch, best_state = (-1.0, 0.0), 0, network.state_dict()
    for epoch in progress(range(1, epochs + 1), f"training, {epochs} epochs"):
        network.train()
        total = 0.0
        drawn = torch.randint(count, (clips,), generator=rng)
        for part in torch.randperm(clips, generator=rng).split(BATCH):
            loss = loss_of(network(variants[drawn[part], part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(part)
        accuracy, loss_validation = evaluate(network, validation[0][0], validation[1])
        if (accuracy, -loss_validation) > best:
            best, best_epoch = (accuracy, -loss_validation), epoch
            best_state = copy.deepcopy(network.state_dict())
        if not sys.stdout.isatty():
            print(f"epoch {epoch:3d}  loss {total / clips:.4f}  validation {accuracy:.2%}", flush=True)
    network.load_state_dict(best_state)
    return network.eval(), best_epoch


def save(network: CommandsCNN, path: Path) -> str:
    """Write the weights atomically, contiguous and unlabelled (byte-stable); return their sha256."""
    data = safetensors.torch.save({name: t.detach().contiguous() for name, t in network.state_dict().items()})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename: a reader sees the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def lay_out(clips: list[Recording], out: Path) -> None:
    """Fill ``out/<word>/`` with symbolic links to the held-out clips (copies, where links can't be)."""
    for clip in clips:
        target = out / clip.word / clip.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.symlink_to(clip.path.resolve())
        except OSError:
            target.write_bytes(clip.path.read_bytes())


def main() -> None:
    """Run the command line."""
    verbatim = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=verbatim)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of word folders")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--copies", type=int, default=16, help="augmented variants of a training clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="the weights' last bits depend on it")
    parser.add_argument("--out", type=Path, default=HERE / "weights.safetensors", metavar="FILE")
    parser.add_argument("--held-out-folder", type=Path, metavar="OUT", help="lay out held-out clips, stop")
    args = parser.parse_args()

    if not args.data.is_dir():
        parser.error(f"--data: no folder {args.data}")
    clips = recordings(args.data)
    by_split = {split: [clip for clip in clips if clip.split == split] for split in SPLITS}
    for split, members in by_split.items():
        if not members:
            parser.error(f"--data: {len(clips)} clips found, none of them in the split {split!r}")
    if args.held_out_folder:
        lay_out(by_split["held_out"], args.held_out_folder)
        print(f"{len(by_split['held_out'])} held-out clips in {args.held_out_folder}")
        return

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    train = tensors(by_split["train"], args.copies, args.seed)
    validation = tensors(by_split["validation"], 0, args.seed)
    network, best_epoch = fit(train, validation, args.epochs, args.seed)
    # The held-out clips are first looked at here, when nothing is left to choose.
    held_out = tensors(by_split["held_out"], 0, args.seed)
    splits = dict(zip(SPLITS, (train, validation, held_out), strict=True))
    accuracy = {split: round(evaluate(network, x[0], y)[0], 4) for split, (x, y) in splits.items()}

    record = {
        "data": args.data.resolve().name,
        "labels": LABELS,
        "clips": {split: len(members) for split, members in by_split.items()},
        "speakers": {split: len({clip.speaker for clip in members}) for split, members in by_split.items()},
        "accuracy": accuracy,
        "seed": args.seed,
        "epochs": args.epochs,
        "best_epoch": best_epoch,
        "copies": args.copies,
        "threads": args.threads,
        "weights_sha256": save(network, args.out),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "librosa", "numpy", "safetensors", "soundfile")},
    }
    text = json.dumps(record, indent=2) + "\n"
    write_atomically(args.out.with_name("training.json"), text.encode())
    print(f"epoch {best_epoch} of {args.epochs} kept: {accuracy['validation']:.2%} on validation speakers")
    print(
        f"{accuracy['held_out']:.2%} on {len(by_split['held_out'])} clips of speakers it never heard "
        "(no benchmark accuracy, if the clips come from an official test list)"
    )


if __name__ == "__main__":
    main()
