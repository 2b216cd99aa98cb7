"""What goes wrong on the way to a device, staged: a line that is cut, silent or slow; a session that is killed.

`Line` stands between client and server, needs no rights, and counts what goes through it. `Cable` is a link of the
kernel's own in a network namespace, and needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from parity.targets.own_sshd import OwnSshd, new_key, program
from tests.pi.servers import session_daemons

_PIECE = 1 << 16


class Line:
    """A port on this machine whose connections go on to a server's, with an `ssh_config` that goes through it.

    `received` and `sent` are bytes to and from the client's view (`sent`: what the client sent), `connections` how many
    there were.
    """

    def __init__(self, server: OwnSshd, folder: Path, host: str = "line") -> None:
        self.host, self.ssh_config = host, folder / f"ssh_config-{host}"
        self.sent = self.received = self.connections = 0
        self._to = (server.address, server.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        text = server.ssh_config.read_text(encoding="utf-8")
        text = text.replace(f"Host {server.host}\n", f"Host {host}\n", 1).replace(
            f"HostName {server.address}", "HostName 127.0.0.1"
        )
        text = text.replace(
            f"Port {server.port}\n", f"Port {self.port}\n  HostKeyAlias [{server.address}]:{server.port}\n"
        )
        self.ssh_config.write_text(text, encoding="utf-8")
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._guard = threading.Lock()
        self._silent, self._ended = threading.Event(), threading.Event()
        self._refusing = False
        self._cut_after: int | None = None
        self._per_second: float | None = None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._refusing:
                _reset(client)
                continue
            self.connections += 1
            try:
                server = socket.create_connection(self._to, 5)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            with self._guard:
                self._pairs.append((client, server))
                for source, sink, up in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=self._carry, args=(source, sink, up), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE if self._per_second is None else 4096):
                while self._silent.is_set() and not self._ended.is_set():
                    time.sleep(0.01)
                if self._cut_after is not None and self.sent + self.received + len(data) > self._cut_after:
                    data = data[: max(0, self._cut_after - self.sent - self.received)]
                    sink.sendall(data)
                    self._cut_after = None
                    self.cut()
                    return
                sink.sendall(data)
                if up:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                if self._per_second is not None:
                    time.sleep(len(data) / self._per_second)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Reset every connection that there is; new ones are taken."""
        with self._guard:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)

    def cut_after(self, total: int) -> None:
        """Cut, once, when so many more bytes went through, both ways together."""
        self._cut_after = self.sent + self.received + total

    def refuse(self, refusing: bool = True) -> None:
        """Reset new connections at once, as a machine does that is down behind its router; or no more."""
        self._refusing = refusing

    def silence(self, silent: bool = True) -> None:
        """Let nothing through and say nothing, as a black hole; or let it through again."""
        (self._silent.set if silent else self._silent.clear)()

    def limit(self, bytes_per_second: float | None) -> None:
        """Carry no more than that each way, from the next connection on."""
        self._per_second = bytes_per_second

    def close(self) -> None:
        """End it and its connections."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Cable:
    """A pair of the kernel's own interfaces, one of them in a network namespace; a server is run there with `enter`.

    RuntimeError where namespaces or interfaces can't be made.
    """

    here, address = "198.18.77.1", "198.18.77.2"  # of the block for benchmarks of network devices: nobody's

    def __init__(self) -> None:
        self._name = f"parity{os.getpid()}"
        self._ends = (f"pa{os.getpid()}", f"pb{os.getpid()}")
        self.enter = (program("ip", "iproute2"), "netns", "exec", self._name)
        near, far = self._ends
        try:
            _ip("netns", "add", self._name)
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self._name)
            _ip("addr", "add", f"{self.here}/30", "dev", near)
            _ip("link", "set", near, "up")
            _ip("-n", self._name, "addr", "add", f"{self.address}/30", "dev", far)
            _ip("-n", self._name, "link", "set", far, "up")
            _ip("-n", self._name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def pull(self) -> None:
        """Take the link down: packets get lost, and nobody is told."""
        _ip("link", "set", self._ends[0], "down")

    def plug(self) -> None:
        """Put it up again."""
        _ip("link", "set", self._ends[0], "up")

    def slow(self, kilobits: int) -> None:
        """Let no more than so many kbit/s through towards the server."""
        limit = ["rate", f"{kilobits}kbit", "burst", "4kb", "latency", "400ms"]
        done = subprocess.run(
            [program("tc", "iproute2"), "qdisc", "replace", "dev", self._ends[0], "root", "tbf", *limit],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.strip())

    def close(self) -> None:
        """Take it all away."""
        for words in (("link", "del", self._ends[0]), ("netns", "del", self._name)):
            with contextlib.suppress(RuntimeError):
                _ip(*words)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ip(*words: str) -> None:
    done = subprocess.run([program("ip", "iproute2"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def kill_sessions(server: OwnSshd) -> int:
    """SIGKILL every sshd process that serves a session, as if its machine had lost them; how many there were."""
    found = session_daemons(server)
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return len(found)


def wrong_key(server: OwnSshd, folder: Path) -> Path:
    """An ssh_config with a key that the server doesn't know."""
    new_key(folder / "wrong_key")
    config = folder / "ssh_config-wrong-key"
    text = server.ssh_config.read_text(encoding="utf-8")
    config.write_text(text.replace(str(server.folder / "client_key"), str(folder / "wrong_key")), encoding="utf-8")
    return config


def changed_host_key(server: OwnSshd) -> None:
    """The server comes back with another host key than the one that its client knows."""
    server.change_host_key()
    server.reboot(0.0)
    time.sleep(0.1)
    server.wait()
