"""The network between a recorder and its server, as a test would have it: open, holding back, one way only, cut."""

import contextlib
import socket
import struct
import threading
from pathlib import Path

_CHUNK = 65536
# Closed so, a connection is reset and not ended: whoever reads from it next is told of an error.
_RESET = struct.pack("ii", 1, 0)


class _Link:
    """One connection; `up` is open while what the client sends arrives, `down` while the server's answers do."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.up, self.down = threading.Event(), threading.Event()
        self._ends = (client, server)
        self._threads = [
            threading.Thread(target=self._pump, args=ends, daemon=True)
            for ends in ((client, server, self.up), (server, client, self.down))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        """Carry bytes, and then the end of them, in order; nothing is dropped, as TCP drops nothing."""
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                gate.wait()
                sink.sendall(data)
            gate.wait()
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End it at once, for both, whatever was under way."""
        client, server = self._ends
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.up.set()
        self.down.set()
        for thread in self._threads:
            thread.join()
        client.close()
        server.close()


class Proxy:
    """Listens on a TCP port of this machine and carries every connection to the server's socket. Close it."""

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._stranded: list[_Link] = []
        self._up = self._down = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """From here on nothing arrives of what the client sends (`up`), or of what the server does (`down`), until `heal`."""
        with self._lock:
            self._up, self._down = not up, not down
            self._apply()

    def heal(self) -> None:
        """Everything arrives again, what was held back first."""
        with self._lock:
            self._up = self._down = True
            self._apply()

    def strand(self) -> None:
        """The connections that there are stay silent for good, both ends open; new ones are not concerned."""
        with self._lock:
            for link in self._links:
                link.up.clear()
                link.down.clear()
            self._stranded += self._links
            self._links = []

    def cut(self) -> None:
        """Reset the connections that there are; new ones are not concerned."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.cut()

    def close(self) -> None:
        # A thread that waits in accept keeps the port open; a connection wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()
        for link in self._stranded:
            link.cut()

    def _apply(self) -> None:
        for link in self._links:
            for gate, is_open in ((link.up, self._up), (link.down, self._down)):
                if is_open:
                    gate.set()
                else:
                    gate.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._server_socket))
            except OSError:
                client.close()
                server.close()
                continue
            link = _Link(client, server)
            with self._lock:
                self._links.append(link)
                self._apply()
            link.start()
