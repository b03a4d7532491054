"""What a supervisor and its children say to each other, over socket pairs that keep the bounds of messages.

A task travels as the JSON text that the server has made of it: the supervisor doesn't look into it. What waits in a
child's socket is nobody's yet: the kernel gives each message to one reader, and the supervisor reads there too, to have
back what the child has no time for. So whether a task was begun is never in doubt, whatever the child is busy with.

    supervisor → child   t CLAIM JSON     a task
                         f CLAIM          the same, its JSON in the file that comes along: it is a large one
    child → supervisor   a JSON array: ["ready", {…}], ["failed", {…}], ["names", […]], ["files", […]],
                         ["end", claim, kind, seconds, error, is_to_be_replaced]
    supervisor → child   by another socket, a JSON array: [what, claim, is_to_be_interrupted]
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from array import array
from typing import Any

__all__ = ["CLAIM", "LONGEST", "chunks", "pair", "receive_task", "send", "send_task", "take_back"]

#: bytes of a claim's text
CLAIM = 36
#: bytes of a task that travels in the message itself
LONGEST = 32_000
#: bytes of the longest message
ROOM = 65_536


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection that keeps the bounds of messages."""
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:  # macOS has none of these
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def send_task(to: socket.socket, claim: str, body: bytes) -> None:
    """Raises BlockingIOError where there is no room for it."""
    if len(body) <= LONGEST:
        to.send(b"t" + claim.encode() + body)
        return
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        socket.send_fds(to, [b"f" + claim.encode()], [file.fileno()])


def _receive(at: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """A message, and the files that came along. (socket.recv_fds forgets the flags.)"""
    message, ancillary, _, _ = at.recvmsg(ROOM, socket.CMSG_LEN(array("i").itemsize), flags)
    files = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    return message, list(files)


def receive_task(at: socket.socket) -> bytes | None:
    """Waits for the next task's JSON; None: there are no more."""
    message, files = _receive(at)
    if not message:
        return None
    if message[:1] == b"t":
        return message[1 + CLAIM :]
    with os.fdopen(files[0], "rb") as file:
        file.seek(0)
        return file.read()


def take_back(at: socket.socket) -> list[str]:
    """The claims of the tasks that nobody has begun, out of the child's end: now they won't be."""
    claims: list[str] = []
    while True:
        try:
            message, files = _receive(at, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionError):
            return claims
        for each in files:
            os.close(each)
        if not message:
            return claims
        claims.append(message[1 : 1 + CLAIM].decode())


def send(to: socket.socket, *message: Any) -> None:
    """One message of the other kinds."""
    to.send(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace"))


def chunks(items: list[str], size: int = 20_000) -> list[list[str]]:
    """Lists that fit into a message."""
    made: list[list[str]] = []
    room = 0
    for each in items:
        if len(each) > room:
            made.append([])
            room = size
        made[-1].append(each)
        room -= len(each.encode()) + 8
    return made
