"""In development: which files a process has loaded, and whether one of them has changed."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable

__all__ = ["Files", "files_of", "loaded"]

_OTHERS = tuple(
    os.path.realpath(path) + os.sep
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def loaded() -> list[str]:
    """Source files of the modules of this process, but Python's own and installed ones."""
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith((".py", ".pyi")):
            path = os.path.realpath(file)
            if not path.startswith(_OTHERS):
                found.add(path)
    return sorted(found)


def files_of(error: BaseException) -> list[str]:
    """Files that an error comes from: a module that can't be imported isn't loaded."""
    found = {os.path.realpath(frame.filename) for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename:
        found.add(os.path.realpath(error.filename))
    return sorted(path for path in found if os.path.exists(path) and not path.startswith(_OTHERS))


class Files:
    """Watches files by the time at which they were changed."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def add(self, paths: Iterable[str]) -> None:
        """These too."""
        for path in paths:
            if path not in self._times:
                self._times[path] = self._time(path)

    @staticmethod
    def _time(path: str) -> int:
        try:
            return os.stat(path).st_mtime_ns
        except OSError:
            return 0

    def changed(self) -> list[str]:
        """Those that have changed since they were asked for last."""
        found = []
        for path, before in self._times.items():
            now = self._time(path)
            if now != before:
                self._times[path] = now
                found.append(path)
        return found
