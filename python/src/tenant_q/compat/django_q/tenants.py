"""Django Tenant Schemas Q: the same functions by other names, in the tenant of the connection."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ...app import App
from .._call import name_of, resolve
from . import functions as tasks
from . import schedules
from .rows import Task

__all__ = ["QUtilities"]


@contextmanager
def _tenant(func: Any, kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The tenant that schema_name says, and the other keywords. A function that has such a parameter gets it."""
    own = dict(kwargs)
    app = App.current()
    tenant = own.pop("schema_name", None)
    if _takes_schema_name(func):
        own["schema_name"] = tenant or app.current_tenant()
    if tenant is None:
        yield own
        return
    with app.tenant(tenant):
        yield own


def _takes_schema_name(func: Any) -> bool:
    try:
        return "schema_name" in inspect.signature(resolve(name_of(func))).parameters
    except (ValueError, TypeError):
        return False


class QUtilities:
    """Tasks and schedules of the current tenant. Every parameter has the effect that its name says, also where the
    original left it out
    (get_result_group); a function gets the keyword schema_name only if
    it has such a parameter, and nothing of another tenant is seen."""

    @staticmethod
    def add_async_task(func: Any, *args: Any, **kwargs: Any) -> str:
        """`async_task`; schema_name=… is another tenant than the connection's."""
        with _tenant(func, kwargs) as own:
            return tasks.async_task(func, *args, **own)

    @staticmethod
    def create_schedule(func: Any, *args: Any, **kwargs: Any) -> schedules.Schedule:
        """`schedule`; schema_name=… is another tenant than the connection's."""
        with _tenant(func, kwargs) as own:
            return schedules.schedule(func, *args, **own)

    @staticmethod
    def get_result(task_id: str, wait: float = 0, cached: Any = False) -> Any:
        """`result`"""
        return tasks.result(task_id, wait, cached)

    @staticmethod
    def get_result_group(
        group_id: str, failures: bool = False, wait: float = 0, count: int | None = None, cached: Any = False
    ) -> list[Any] | None:
        """`result_group`"""
        return tasks.result_group(group_id, failures, wait, count, cached)

    @staticmethod
    def fetch_task(task_id: str, wait: float = 0, cached: Any = False) -> Task | None:
        """`fetch`"""
        return tasks.fetch(task_id, wait, cached)

    @staticmethod
    def fetch_task_group(
        group_id: str, failures: bool = True, wait: float = 0, count: int | None = None, cached: Any = False
    ) -> list[Task] | None:
        """`fetch_group`"""
        return tasks.fetch_group(group_id, failures, wait, count, cached)

    @staticmethod
    def get_group_count(group_id: str, failures: bool = False, cached: Any = False) -> int:
        """`count_group`"""
        return tasks.count_group(group_id, failures, cached)

    @staticmethod
    def delete_task_group(group_id: str, tasks: bool = False, cached: Any = False) -> int:
        """`delete_group`"""
        return _delete_group(group_id, tasks, cached)

    @staticmethod
    def delete_task_from_cache(task_id: str, broker: Any = None) -> bool:
        """`delete_cached`"""
        return tasks.delete_cached(task_id, broker)

    @staticmethod
    def get_queue_size(broker: Any = None) -> int:
        """`queue_size`"""
        return tasks.queue_size(broker)

    @staticmethod
    def add_async_tasks_from_iter(func: Any, args_iter: Iterable[Any], **kwargs: Any) -> str:
        """`async_iter`"""
        return tasks.async_iter(func, args_iter, **kwargs)

    @staticmethod
    def create_async_tasks_chain(
        chain: Iterable[Any],
        group: str | None = None,
        cached: Any = False,
        sync: bool | None = None,
        broker: Any = None,
    ) -> str:
        """`async_chain`"""
        return tasks.async_chain(chain, group, cached, sync, broker)


_delete_group = tasks.delete_group
