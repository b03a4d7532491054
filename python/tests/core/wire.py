"""A wire that can be cut: stands between a client and the server, and ends both connections when the client has sent a
certain word."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Wire:
    """Forwards until the client sends `word`; then with deliver=True the server still gets that, and its answer goes
    nowhere; with False it never arrives."""

    def __init__(self) -> None:
        self.word: bytes | None = None
        self.deliver = True
        self.cuts = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])))
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        cut = False
        with client, server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    try:
                        data = ready.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    if ready is server and cut:  # the answer: it is done by now
                        return
                    if ready is client and self.word is not None and self.word in data:
                        self.cuts += 1
                        self.word = None
                        cut = True
                        if not self.deliver:
                            return
                    (server if ready is client else client).sendall(data)

    def close(self) -> None:
        self._listening.close()


@contextmanager
def wire() -> Iterator[Wire]:
    made = Wire()
    try:
        yield made
    finally:
        made.close()
