"""`python -m tenant_q worker module:app`, `sync`, `info`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from .errors import TenantQError
from .worker import add_arguments, options_of

__all__ = ["main"]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tenant_q", description="Tasks, schedules and workers for tenant_q.")
    commands = made.add_subparsers(dest="command", required=True, metavar="worker | sync | info")
    worker = commands.add_parser("worker", help="runs tasks", description="Runs tasks until it is stopped.")
    add_arguments(worker)
    sync = commands.add_parser(
        "sync", help="declares tasks and schedules", description="Declares the App's tasks and schedules to the server."
    )
    sync.add_argument("app", help="module:name of the App")
    sync.add_argument(
        "--check", action="store_true", help="changes nothing; exit status 1 where something would change"
    )
    sync.add_argument("--prune", action="store_true", help="removes what it has declared before and doesn't any more")
    sync.add_argument("--tenant", help="the schema; the App's")
    info = commands.add_parser(
        "info", help="what there is", description="The App's tasks, workers that are connected, and problems."
    )
    info.add_argument("app", help="module:name of the App")
    info.add_argument("--json", action="store_true", help="as JSON")
    return made


def _worker(arguments: argparse.Namespace) -> int:
    from .worker import run

    return run(options_of(arguments))


def _sync(arguments: argparse.Namespace) -> int:
    from .worker.loading import load_app

    app = load_app(arguments.app)
    changed = app.sync(check=arguments.check, prune=arguments.prune, tenant=arguments.tenant)
    if arguments.check:
        print(f"{changed} would be new or changed" if changed else "everything is declared")
        return 1 if changed else 0
    print(f"{changed} new or changed")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from .worker.info import facts, text
    from .worker.loading import load_app

    found = facts(load_app(arguments.app))
    print(json.dumps(found, indent=2, default=str) if arguments.json else text(found))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status."""
    said = parser().parse_args(arguments)
    try:
        return {"worker": _worker, "sync": _sync, "info": _info}[said.command](said)
    except TenantQError as error:
        print(f"tenant_q: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
