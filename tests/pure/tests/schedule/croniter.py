"""Answers questions about cron expressions with croniter, one line each.

Question (tab-separated): or|and, IANA zone, instant in seconds since 1970, expression [, expression...]
Answer: the first three fire times after that instant, of all expressions together; `never`; or `refused`.
"""

import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

FIRE_TIMES = 3


def fire_times(expression, day_or, zone, after):
    # In UTC croniter is quicker without a zone.
    start = after if zone == "UTC" else datetime.fromtimestamp(after, ZoneInfo(zone))
    # implement_cron_bug: what Vixie cron does with `*/2` in a day field, by croniter's own name for it.
    schedule = croniter(expression, start, float, day_or=day_or, implement_cron_bug=True, second_at_beginning=True)
    times = []
    try:
        for _ in range(FIRE_TIMES):
            times.append(int(schedule.get_next()))
    except CroniterBadDateError:
        pass
    return times


for line in sys.stdin:
    days, zone, after, *expressions = line.rstrip("\n").split("\t")
    try:
        times = {time for text in expressions for time in fire_times(text, days == "or", zone, int(after))}
        print(*sorted(times)[:FIRE_TIMES] or ["never"])
    except CroniterBadCronError:
        print("refused")
