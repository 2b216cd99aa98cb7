"""Training a reference model on a folder like Speech Commands: ``DIR/<word>/<speaker>_nohash_<n>.wav`` (or .flac).

A system's ``train.py`` says what is its own (network, augmentation, schedule) and calls `main`; the recipe, the labels
and the axes of the input are read from its system.toml, so that what is trained is what is deployed.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import rich.progress
import safetensors.torch
import soundfile
import torch
from torch import Tensor, nn

from parity import layout, registry, system
from parity.audio import speaker_of as speaker_of
from parity.protocols import Clip, FeatureBackend
from parity.speech import SPLITS as SPLITS
from parity.speech import Recording, recordings
from parity.speech import label_of as label_of
from parity.speech import split_of as split_of

Float32 = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a system's own ``train.py`` says."""

    folder: Path
    build: Callable[[], nn.Module]
    augment: Callable[[Float32, np.random.Generator], Float32]
    """Samples at full scale ±1.0 to samples; of another length where the network takes any."""
    layout: str
    """Axes of the network's input, as in system.toml: `N1TF`."""
    backend: str = "librosa"
    """The backend whose features it is trained on."""
    finish: Callable[[nn.Module], nn.Module] = lambda network: network
    """What was trained -> what is deployed, computing the same: where `build` adds what only training needs."""
    epochs: int = 120
    copies: int = 16
    """Augmented variants of each training clip; every epoch draws one."""
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.02
    smoothing: float = 0.1
    balanced: bool = False
    """Classes count alike, however many clips each has: in the loss, and in every accuracy."""


def read(path: Path, rate: int) -> Float32:
    """Read a mono clip at `rate` Hz as float32 samples at full scale ±1.0, ``[samples]``."""
    samples, found = soundfile.read(path, dtype="float32")
    if found != rate or samples.ndim != 1:
        raise SystemExit(f"{path}: needs mono at {rate} Hz, has {samples.ndim} axes at {found} Hz")
    return np.asarray(samples, dtype=np.float32)


def progress(items: Iterable[T], what: str) -> Iterator[T]:
    """Show a progress bar on a terminal, and one plain line elsewhere."""
    if sys.stdout.isatty():
        yield from rich.progress.track(list(items), description=what)
    else:
        print(what, flush=True)
        yield from items


class Features:
    """The inputs of a network as its system.toml describes them, worked out by a backend."""

    def __init__(self, of: system.System, axes: str, backend: str) -> None:
        self._frontend, self._layout = of.frontend, axes
        self._backend: FeatureBackend = registry.create("backend", backend)
        if (refused := self._backend.supports(of.frontend)) is not None:
            raise SystemExit(f"{of.name} can't be trained on the features of {backend}: {refused.reason}")
        self.versions = dict(self._backend.versions())

    def of(self, samples: Float32) -> Tensor:
        """Return the network's input for a clip, without its batch axis."""
        tap = self._frontend.output
        (taps,) = self._backend.features(
            [Clip("", samples, self._frontend.input.rate, "")], self._frontend, frozenset({tap})
        )
        return torch.from_numpy(layout.native(np.asarray(taps[tap], np.float32), self._layout)[0].copy())


@dataclass(frozen=True)
class Examples:
    """Inputs of clips: `variants[v][i]` (the first as recorded), and their classes."""

    variants: Sequence[Sequence[Tensor]]
    classes: Tensor


def examples(of: Features, clips: Sequence[Recording], how: Training, rate: int, copies: int, seed: int) -> Examples:
    """Work out the inputs of clips, and of `copies` augmented variants of each."""
    out: list[list[Tensor]] = [[] for _ in range(1 + copies)]
    for index, clip in enumerate(progress(clips, f"features of {len(clips)} clips")):
        samples = read(clip.path, rate)
        out[0].append(of.of(samples))
        rng = np.random.default_rng([seed, index])
        for variant in out[1:]:
            variant.append(of.of(how.augment(samples, rng)))
    return Examples(out, torch.tensor([clip.label for clip in clips]))


def batches(inputs: Sequence[Tensor], order: Sequence[int], size: int) -> Iterator[tuple[Tensor, list[int]]]:
    """Stack inputs in the order given, those of one shape together, at most `size` at a time; with their positions."""
    by_shape: dict[torch.Size, list[int]] = {}
    for i in order:
        by_shape.setdefault(inputs[i].shape, []).append(i)
    for members in by_shape.values():
        for start in range(0, len(members), size):
            part = members[start : start + size]
            yield torch.stack([inputs[i] for i in part]), part


def class_weights(classes: Tensor, count: int) -> Tensor:
    """Return what a clip of each of `count` classes weighs, so that all classes weigh alike and a clip 1 on average."""
    found = torch.bincount(classes, minlength=count)
    return len(classes) / ((found > 0).sum() * found.clamp(min=1))


def evaluate(network: nn.Module, of: Examples, balanced: bool = False) -> tuple[float, float]:
    """Return accuracy (0 to 1) and mean cross-entropy (nats) of the network in eval mode, on clips as recorded.

    `balanced`: the means over the classes of each class's own.
    """
    network.eval()
    logits: list[Tensor] = [torch.empty(0)] * len(of.classes)
    with torch.inference_mode():
        for x, members in batches(of.variants[0], range(len(of.classes)), 256):
            for i, row in zip(members, network(x), strict=True):
                logits[i] = row
    every = torch.stack(logits)
    weight = class_weights(of.classes, every.shape[1]) if balanced else torch.ones(every.shape[1])
    right = (every.argmax(1) == of.classes) * weight[of.classes]
    return right.mean().item(), nn.functional.cross_entropy(every, of.classes, weight).item()


def fit(how: Training, train: Examples, validation: Examples, epochs: int, seed: int) -> tuple[nn.Module, int]:
    """Train, and return the network of the epoch that did best on the validation speakers, with that epoch."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    clips = len(train.classes)
    network = how.build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=how.rate, weight_decay=how.decay)
    steps = epochs * -(-clips // how.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weight = class_weights(train.classes, int(train.classes.max()) + 1) if how.balanced else None
    loss_of = nn.CrossEntropyLoss(weight, label_smoothing=how.smoothing)
    best, best_epoch, best_state = (-1.0, 0.0), 0, network.state_dict()
    for epoch in progress(range(1, epochs + 1), f"training, {epochs} epochs"):
        network.train()
        total = 0.0
        drawn = torch.randint(len(train.variants), (clips,), generator=rng).tolist()
        inputs = [train.variants[v][i] for i, v in enumerate(drawn)]
        for x, members in batches(inputs, torch.randperm(clips, generator=rng).tolist(), how.batch):
            loss = loss_of(network(x), train.classes[members])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(members)
            if schedule.last_epoch < steps:  # inputs of several shapes make a few batches more
                schedule.step()
        accuracy, loss_validation = evaluate(network, validation, how.balanced)
        if (accuracy, -loss_validation) > best:
            best, best_epoch = (accuracy, -loss_validation), epoch
            best_state = copy.deepcopy(network.state_dict())
        if not sys.stdout.isatty():
            print(f"epoch {epoch:3d}  loss {total / clips:.4f}  validation {accuracy:.2%}", flush=True)
    network.load_state_dict(best_state)
    return network.eval(), best_epoch


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename: a reader sees the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save(network: nn.Module, path: Path) -> str:
    """Write the weights atomically, contiguous and unlabelled (byte-stable); return their sha256."""
    data = safetensors.torch.save({name: t.detach().contiguous() for name, t in network.state_dict().items()})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def lay_out(clips: Sequence[Recording], out: Path) -> None:
    """Fill ``out/<word>/`` with symbolic links to the held-out clips (copies, where links can't be)."""
    for clip in clips:
        target = out / clip.word / clip.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.symlink_to(clip.path.resolve())
        except OSError:
            target.write_bytes(clip.path.read_bytes())


def main(how: Training) -> None:
    """Run the command line of a system's train.py."""
    parser = argparse.ArgumentParser(description=f"Train {how.folder.name} on a folder like Speech Commands.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of word folders")
    parser.add_argument("--epochs", type=int, default=how.epochs)
    parser.add_argument("--copies", type=int, default=how.copies, help="augmented variants of a training clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="the weights' last bits depend on it")
    parser.add_argument("--out", type=Path, default=how.folder / "weights.safetensors", metavar="FILE")
    parser.add_argument("--held-out-folder", type=Path, metavar="OUT", help="lay out held-out clips, stop")
    args = parser.parse_args()

    of = system.load(how.folder)
    if not args.data.is_dir():
        parser.error(f"--data: no folder {args.data}")
    clips = recordings(args.data, of.labels)
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
    features, rate = Features(of, how.layout, how.backend), of.frontend.input.rate

    def made(split: str, copies: int) -> Examples:
        return examples(features, by_split[split], how, rate, copies, args.seed)

    train, validation = made("train", args.copies), made("validation", 0)
    network, best_epoch = fit(how, train, validation, args.epochs, args.seed)
    network = how.finish(network).eval()
    # The held-out clips are first looked at here, when nothing is left to choose.
    splits = dict(zip(SPLITS, (train, validation, made("held_out", 0)), strict=True))
    accuracy = {split: round(evaluate(network, x, how.balanced)[0], 4) for split, x in splits.items()}

    record = {
        "data": args.data.resolve().name,
        "labels": of.labels,
        "clips": {split: len(members) for split, members in by_split.items()},
        "speakers": {split: len({clip.speaker for clip in members}) for split, members in by_split.items()},
        "accuracy": accuracy,
        "balanced": how.balanced,
        "seed": args.seed,
        "epochs": args.epochs,
        "best_epoch": best_epoch,
        "copies": args.copies,
        "threads": args.threads,
        "weights_sha256": save(network, args.out),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version()}
        | features.versions
        | {name: version(name) for name in ("torch", "numpy", "safetensors", "soundfile")},
    }
    write_atomically(args.out.with_name("training.json"), (json.dumps(record, indent=2) + "\n").encode())
    print(f"epoch {best_epoch} of {args.epochs} kept: {accuracy['validation']:.2%} on validation speakers")
    print(
        f"{accuracy['held_out']:.2%} on {len(by_split['held_out'])} clips of speakers it never heard "
        "(no benchmark accuracy, if the clips come from an official test list)"
    )
