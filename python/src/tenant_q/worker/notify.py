"""What systemd hears of a service of Type=notify."""

from __future__ import annotations

import os
import socket

__all__ = ["Systemd"]


class Systemd:
    """Tells nothing where nobody listens."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        environ = dict(os.environ) if environ is None else environ
        self.address = environ.get("NOTIFY_SOCKET", "")
        pid = environ.get("WATCHDOG_PID")
        every = environ.get("WATCHDOG_USEC", "0") if pid is None or pid == str(os.getpid()) else "0"
        #: seconds within which it wants to hear something; 0 = it doesn't
        self.watchdog = int(every) / 1e6 if every.isdigit() else 0.0

    def tell(self, **words: str | int) -> None:
        """READY=1, say. Not being heard is no error."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        text = "".join(f"{word}={value}\n" for word, value in words.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as to:
                to.setblocking(False)
                to.connect(address)
                to.send(text.encode())
        except OSError:
            pass
