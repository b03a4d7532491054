"""What is around the call of each task of a Django site: the first of its middleware."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..errors import NotReady
from ..middleware import Middleware

if TYPE_CHECKING:
    from ..context import Context
    from ..execute import Outcome
    from .app import DjangoApp

__all__ = ["Around"]

_failure: ContextVar[BaseException | None] = ContextVar("tenant_q.django.failure", default=None)


class Around(Middleware):
    """Raises what went wrong before the call, in a place where it is the task's error; sends the signals of Django's
    tasks; says what to do about `durable=True`."""

    def __init__(self, app: DjangoApp) -> None:
        self.app = app

    @staticmethod
    @contextmanager
    def failing(error: BaseException | None) -> Iterator[None]:
        """In the block a run raises this."""
        token = _failure.set(error)
        try:
            yield
        finally:
            _failure.reset(token)

    def _of_django(self, context: Context) -> Any:
        return getattr(self.app.registry.get(context.handler), "of_django", None)

    @contextmanager
    def run(self, context: Context) -> Iterator[None]:
        failure = _failure.get()
        if failure is not None:
            raise failure
        if self._of_django(context) is not None:
            from .backend import tell_started

            tell_started(context)
        try:
            yield
        except RuntimeError as error:
            if str(error).startswith("A durable atomic block"):
                raise NotReady(
                    "the task opens a durable transaction, and runs in one: that in which it ends",
                    hint="Declare it with atomic=False, and let context.commit() be its last transaction.",
                ) from error
            raise

    def ended(self, context: Context, outcome: Outcome, error: BaseException | None) -> None:
        if outcome.kind in ("done", "failed") and self._of_django(context) is not None:
            from .backend import tell_finished

            tell_finished(context, outcome, error)
