"""Finding the App that a command line names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ..app import App
from ..errors import NoApp

__all__ = ["load_app"]


def load_app(target: str, path: Sequence[str] = ()) -> App:
    """ "shop.tasks:app", "shop.tasks" (its `app`), or "shop.tasks:make_app", a function that returns one; its tasks are
    imported. Raises `NoApp`; what the module raises goes on."""
    for each in reversed(path):
        if each not in sys.path:
            sys.path.insert(0, each)
    module_name, _, name = target.partition(":")
    if not module_name:
        raise NoApp(f"{target!r} names no module", hint="Say module:name, shop.tasks:app.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise NoApp(
            f"there is no module {error.name}",
            detail=f"It was looked for in {', '.join(each or '.' for each in sys.path)}.",
            hint="Start it in the folder that has the module, or set PYTHONPATH.",
        ) from None
    found: object = module
    for part in (name or "app").split("."):
        found = getattr(found, part, None)
    if found is not None and not isinstance(found, App) and callable(found):
        found = found()
    if not isinstance(found, App):
        raise NoApp(
            f"{module_name} has no App called {name or 'app'}",
            hint="Say module:name of one, shop.tasks:app, or of a function that returns one.",
        )
    with found.active():
        found.load_tasks()
    return found
