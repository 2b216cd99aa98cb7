"""A stand-in for a Raspberry Pi: Debian's user land for ARM, run by QEMU, behind an sshd of its own on this machine.

Its programs and wheels are the ones a Pi runs, so what they compute can be held to the goldens before there is a board.
It is slow, and its times say nothing of a Pi's: every process in it has PARITY_EMULATED set. `build` makes the root
file system once, in the user's cache; a start takes less than a second and leaves nothing behind. Needs root, for its
namespaces.

`python -m parity.targets.emulated_pi` builds all of `KINDS`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from parity.errors import ConfigError, TargetError
from parity.targets.own_sshd import OwnSshd, program

NEEDS = "openssh-server openssh-client qemu-user-static mmdebstrap"
INSTALL = f"sudo apt-get install --no-install-recommends {NEEDS}"
SUITE = "bookworm"
_MAIN_ONLY = "sed -i -E '/-(security|updates) /d' \"$1/etc/apt/sources.list\""
"""A release without what came after it: two builds give the same."""
_PROGRAMS = "python3 bash dash coreutils findutils grep gzip procps sed tar util-linux libgcc-s1 libstdc++6"
_SITE = "usr/local/lib/python3.11/dist-packages"
_USER, _ID = "pi", 1000
_AUTHORIZED = "AuthorizedKeysFile /run/sshd/authorized"
"""Its own folder is this machine's user's alone; sshd reads the key as the user who logs in."""


@dataclass(frozen=True)
class Kind:
    """One stand-in: what it is made of and which CPU QEMU shows it."""

    name: str
    architecture: str
    """Debian's word for it."""
    cpu: str
    """QEMU's word for it. Its default, `max`, has instructions that no Pi has: other kernels, other numbers."""
    cpuinfo: str
    """/proc/cpuinfo of one core: libraries choose kernels by it, and die of this machine's own."""
    magic: str
    """How the kernel tells its programs: the start of an ELF header, as binfmt_misc takes it."""
    wheels: tuple[str, ...]
    platforms: tuple[str, ...]
    packages: str = ""
    links: tuple[tuple[str, str], ...] = ()
    """Links (where, to what) that Debian's packages make when they are configured; here they are only unpacked."""

    @property
    def qemu(self) -> str:
        """The emulator's name."""
        return {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}[self.architecture]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for what it is made of."""
        return hashlib.sha256(repr([asdict(self), SUITE, _PROGRAMS, _RECIPE]).encode()).hexdigest()[:16]


_RECIPE = 2
"""Goes up when `build` makes something else of the same table."""

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="emulated-pi", architecture="arm64", cpu="cortex-a72",
            cpuinfo="Features\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            "CPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n",
            magic=r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
            wheels=(
                "numpy==2.4.6", "onnxruntime==1.31.1", "ai-edge-litert==2.3.0", "backports.strenum==1.2.8",
                "flatbuffers==25.12.19", "ml_dtypes==0.6.0", "packaging==26.3", "protobuf==7.36.2", "tqdm==4.70.1",
                "typing_extensions==4.16.0",
            ),
            platforms=("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
        ),
        Kind(
            name="emulated-pi32", architecture="armhf", cpu="cortex-a7",
            cpuinfo="Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm\n"
            "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: 0xc07\nCPU revision\t: 5\n",
            magic=r"\x7f\x45\x4c\x46\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00:"
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
            wheels=("tflite-runtime==2.14.0",),
            platforms=("manylinux_2_34_armv7l",),
            packages="python3-numpy",
            links=(
                ("usr/lib/arm-linux-gnueabihf/libblas.so.3", "blas/libblas.so.3"),
                ("usr/lib/arm-linux-gnueabihf/liblapack.so.3", "lapack/liblapack.so.3"),
            ),
        ),
    )
}  # fmt: skip


def _cache() -> Path:
    named = os.environ.get("PARITY_PI_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "parity/pi"


def _wanted(name: str) -> Kind:
    """The kind of that name, where all it takes is here. ConfigError where something is missing."""
    kind = KINDS.get(name)
    if kind is None:
        raise ConfigError(f"there is no stand-in called {name!r}", f"take one of {', '.join(KINDS)}")
    if sys.platform != "linux":
        raise ConfigError(f"{name} runs on Linux only", "name a device: --target ssh://user@host")
    tools = {"mmdebstrap": "mmdebstrap", "sshd": "sshd", "ssh": "ssh", "QEMU": f"{kind.qemu}-static"}
    missing = []
    for word, tool in tools.items():
        try:
            program(tool, "")
        except ConfigError:
            missing.append(word)
    if missing:
        raise ConfigError(f"{name} needs {', '.join(missing)}", INSTALL)
    if os.geteuid() != 0:
        raise ConfigError(f"{name} needs root: it makes mounts of its own", 'sudo "$(command -v parity)" ...')
    return kind


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr + done.stdout).splitlines()
        told = [s.strip() for s in lines if s.startswith(("E:", "ERROR"))] or [s.strip() for s in lines if s.strip()]
        raise TargetError(f"{what} failed: {(told or ['it says nothing'])[0][:300]}", "try again, with a network")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def build(name: str, say: Callable[[str], None] = _tell) -> Path:
    """The root file system of a stand-in, made if the cache doesn't have it; two at once make it once.

    ConfigError where something is missing here, TargetError where its parts can't be fetched.
    """
    kind = _wanted(name)
    place = _cache() / f"{kind.name}-{kind.digest}"
    if place.is_dir():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = (place.parent / "lock").open("w")
    except OSError as e:
        raise ConfigError(f"{place.parent} can't be written: {e.strerror}", "set PARITY_PI_CACHE to a folder") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            for left in place.parent.glob(f"{kind.name}-*.unfinished"):  # of one that was killed
                shutil.rmtree(left, ignore_errors=True)
            unfinished = place.with_name(place.name + ".unfinished")
            try:
                _make(kind, unfinished, say)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _make(kind: Kind, root: Path, say: Callable[[str], None]) -> None:
    say(f"{kind.name}: fetching Debian {SUITE} for {kind.architecture} (once)")
    packages = ",".join((_PROGRAMS + " " + kind.packages).split())
    _run(
        [
            "mmdebstrap", "--quiet", "--mode=root", f"--arch={kind.architecture}", "--variant=extract",
            "--skip=check/qemu", f"--include={packages}", f"--setup-hook={_MAIN_ONLY}", SUITE, str(root),
            *([mirror] if (mirror := os.environ.get("PARITY_PI_MIRROR")) else []),
        ],
        f"fetching Debian's packages for {kind.name}",
    )  # fmt: skip
    root.chmod(0o755)
    say(f"{kind.name}: fetching {', '.join(w.partition('==')[0] for w in kind.wheels[:3])} for it")
    _run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
            "--no-deps", "--no-compile", "--implementation", "cp", "--python-version", "311",
            *[f"--platform={p}" for p in kind.platforms], "--target", str(root / _SITE), *kind.wheels,
        ],
        f"fetching wheels for {kind.name}",
    )  # fmt: skip
    for where, to in kind.links:
        (root / where).symlink_to(to)
    accounts = f"root:x:0:0::/root:/bin/bash\n{_USER}:x:{_ID}:{_ID}::/home/{_USER}:/bin/bash\n"
    (root / "etc/passwd").write_text(accounts + "sshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n", encoding="utf-8")
    (root / "etc/group").write_text(f"root:x:0:\n{_USER}:x:{_ID}:\nnogroup:x:65534:\n", encoding="utf-8")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost {kind.name}\n", encoding="utf-8")
    (root / "etc/resolv.conf").touch()
    (root / "usr/lib/python3/dist-packages").mkdir(exist_ok=True)
    (root / "home" / _USER).mkdir(parents=True)
    if sys.version_info[:2] == (3, 11):  # the same byte code: an import there needn't compile
        places = [str(root / place) for place in ("usr/lib/python3.11", "usr/lib/python3/dist-packages", _SITE)]
        command = [sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/", "--invalidation-mode"]
        _run([*command, "unchecked-hash", *places], "compiling its modules")


def _mounts(kind: Kind, root: Path, folder: Path, fresh: bool, home: str) -> str:
    """The script that makes its view of the machine, at /mnt of a mount namespace."""
    (folder / "cpuinfo").write_text(
        "".join(f"processor\t: {i}\nBogoMIPS\t: 108.00\n{kind.cpuinfo}\n" for i in range(os.cpu_count() or 1))
        + f"Model\t\t: {kind.cpu}, emulated by QEMU\n"
    )
    (folder / "shadow").write_text(f"root:*:1::::::\n{_USER}:*:1::::::\nsshd:*:1::::::\n")
    qemu = program(f"{kind.qemu}-static", "qemu-user-static")
    register = f":{kind.qemu}:M::{kind.magic}:{qemu}:OCF"
    at, private = shlex.quote(str(root)), shlex.quote(str(folder))
    hidden = f"mount -t tmpfs -o size=4k tmpfs /mnt/{_SITE}" if fresh else ""
    devices = " ".join(("null", "zero", "full", "random", "urandom"))
    # F opens the emulator now, outside the root that it will run in.
    return f"""
mount --make-rprivate /
if mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && test ! -e /proc/sys/fs/binfmt_misc/{kind.qemu}; then
  printf '%s' {shlex.quote(register)} > /proc/sys/fs/binfmt_misc/register
fi
mount --bind {at} /mnt
mount -o remount,bind,ro /mnt
mount -t proc proc /mnt/proc
mount --bind {private}/cpuinfo /mnt/proc/cpuinfo
mount -t tmpfs -o mode=755,size=1m tmpfs /mnt/sys
mkdir -p /mnt/sys/devices/system/cpu
mount --rbind /sys/devices/system/cpu /mnt/sys/devices/system/cpu
mount -t tmpfs -o mode=755,size=1m tmpfs /mnt/dev
for d in {devices}; do touch /mnt/dev/$d; mount --bind /dev/$d /mnt/dev/$d; done
ln -s /proc/self/fd /mnt/dev/fd
mkdir /mnt/dev/shm
for d in dev/shm tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs /mnt/$d; done
mount -t tmpfs -o mode=755 tmpfs /mnt/run
mount -t tmpfs -o mode=755,uid={_ID},gid={_ID},size={home} tmpfs /mnt/home/{_USER}
mount --bind /etc/resolv.conf /mnt/etc/resolv.conf
{hidden}
for f in passwd group; do mount --bind /mnt/etc/$f /etc/$f; done
test ! -e /etc/shadow || mount --bind {private}/shadow /etc/shadow
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
cp client_key.pub /run/sshd/authorized
"""


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="parity-pi-") as folder:
        yield Path(folder)


class EmulatedPi:
    """A running stand-in: `ssh -F <ssh_config> <host>` is its user `pi`, `python` its Python.

    `fresh`: with an empty home (as always), and without any wheel. `home`: the size of its home, as tmpfs takes it.
    ConfigError where it can't be had here, TargetError where its parts can't be fetched.
    """

    python = "python3"

    def __init__(
        self,
        name: str = "emulated-pi",
        *,
        fresh: bool = False,
        home: str = "50%",
        say: Callable[[str], None] = _tell,
    ) -> None:
        kind, root = _wanted(name), build(name, say)
        self.name = name
        with contextlib.ExitStack() as made:
            folder = made.enter_context(_private_folder())
            environment = f"QEMU_CPU={kind.cpu} PARITY_EMULATED={kind.qemu}:{kind.cpu}"
            settings = ("ChrootDirectory /mnt", _AUTHORIZED, f"SetEnv {environment}")
            mounts = _mounts(kind, root, folder, fresh, home)
            server = OwnSshd(name, _USER, settings, ("user", "mount", "pid"), mounts, remove=(folder,))
            self.sshd = made.enter_context(server)
            self._made = made.pop_all()
        self.host, self.ssh_config, self.port = self.sshd.host, self.sshd.ssh_config, self.sshd.port

    def stop(self) -> None:
        """End it: no process, mount or file of it stays, but the root file system in the cache."""
        self._made.close()

    def __enter__(self) -> EmulatedPi:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


if __name__ == "__main__":
    try:
        for each in KINDS:
            print(build(each, print))
    except (ConfigError, TargetError) as error:
        print(f"parity: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
