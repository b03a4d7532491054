"""procrastinate's retry strategies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ... import errors
from ...options import Backoff
from .._unsupported import refuse

__all__ = ["BaseRetryStrategy", "JobRetry", "RetryDecision", "RetryStrategy", "policy"]


class RetryDecision:
    """Another attempt, at a moment or after so long."""

    def __init__(
        self, *, retry_at: datetime | None = None, retry_in: Mapping[str, float] | None = None, **words: Any
    ) -> None:
        if (retry_at is None) == (retry_in is None):
            raise ValueError("either retry_at or retry_in is given")
        same = (
            "An attempt has the priority, the queue and the lock of its task; Result.update() changes one that waits."
        )
        refuse(words, dict.fromkeys(("priority", "queue", "lock"), same), "RetryDecision")
        self.retry_at = retry_at if retry_at is not None else datetime.now(UTC) + timedelta(**retry_in or {})

    def delay(self) -> float:
        """Seconds until then."""
        return max((self.retry_at - datetime.now(UTC)).total_seconds(), 0.0)


class JobRetry(errors.Retry):
    """Another attempt, as a strategy of one's own has decided."""


class BaseRetryStrategy:
    """A strategy of one's own: get_retry_decision(exception=…, job=…), or get_schedule_in(exception=…, attempts=…)."""

    def get_retry_decision(self, *, exception: BaseException, job: Any) -> RetryDecision | None:
        """None = no other attempt."""
        seconds = self.get_schedule_in(exception=exception, attempts=job.attempts)
        return None if seconds is None else RetryDecision(retry_in={"seconds": seconds})

    def get_schedule_in(self, *, exception: BaseException, attempts: int) -> int | None:
        """Seconds until the next attempt; None = there is none."""
        raise NotImplementedError


class RetryStrategy(BaseRetryStrategy):
    """max_attempts: retries beside the first attempt, None = any number. Each waits wait + linear_wait times attempts +
    exponential_wait to
    the power of attempts + 1 seconds. retry_exceptions: others are final."""

    def __init__(
        self,
        *,
        max_attempts: int | None = None,
        wait: int = 0,
        linear_wait: int = 0,
        exponential_wait: int = 0,
        retry_exceptions: Iterable[type[Exception]] | None = None,
    ) -> None:
        self.max_attempts = max_attempts
        self.wait = wait
        self.linear_wait = linear_wait
        self.exponential_wait = exponential_wait
        self.retry_exceptions = tuple(retry_exceptions) if retry_exceptions is not None else None

    def get_schedule_in(self, *, exception: BaseException, attempts: int) -> int | None:
        if self.max_attempts is not None and attempts >= self.max_attempts:
            return None
        if self.retry_exceptions and not isinstance(exception, self.retry_exceptions):
            return None
        power = self.exponential_wait ** (attempts + 1) if self.exponential_wait else 0
        return int(self.wait + self.linear_wait * attempts + power)


def policy(retry: Any) -> tuple[dict[str, Any], BaseRetryStrategy | None]:
    """What `retry=` says, as words of @task; and the strategy that decides in Python, if it is one's own."""
    if retry is False or retry is None:
        return {"max_attempts": 1}, None
    if retry is True:
        retry = RetryStrategy()
    elif isinstance(retry, int):
        retry = RetryStrategy(max_attempts=retry)
    if type(retry) is not RetryStrategy:
        # Whether there is another attempt it says itself; all else is final.
        return {"max_attempts": 0, "retry": Backoff("fixed", base=0, retry_on=(JobRetry,))}, retry
    words: dict[str, Any] = {"max_attempts": 0 if retry.max_attempts is None else retry.max_attempts + 1}
    backoff: dict[str, Any] = {"base": retry.wait}
    if retry.linear_wait:
        backoff["linear"] = retry.linear_wait
    if retry.exponential_wait:
        backoff["factor"] = retry.exponential_wait
    if retry.retry_exceptions:
        backoff["retry_on"] = retry.retry_exceptions
    return {**words, "retry": Backoff("procrastinate", **backoff)}, None
