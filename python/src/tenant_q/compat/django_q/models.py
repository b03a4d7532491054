"""What django_q.models has."""

from .rows import Failure, Success, Task
from .schedules import Schedule

__all__ = ["Failure", "Schedule", "Success", "Task"]
