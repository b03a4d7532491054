"""Whether the fire times in the tables of docs/schedules.md are those of their rules, as the page says: after Thursday 2026-01-01
12:00 in UTC. In a cell `;` separates what several rules of a row fire at; what it names of each time must be so. The tables of
clock changes and of ends of months name times that follow each other."""

import re
from pathlib import Path

import psycopg

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
BEGIN = "2026-01-01 12:00+00"
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)


def fire_times(connection, rule, day_and=False):
    call = "SELECT fire_time AT TIME ZONE 'UTC' FROM tq_next_runs(%s, 'UTC', %s, 3, day_and => %s) AS fire_time"
    return [row[0] for row in connection.execute(call, [rule, BEGIN, day_and])]


def holds(part, at):
    """Whether all that is said of a time is so: 'Fri 2 Jan', '12:05:00', '1 Jan 2027', '2028', '10:30'."""
    said = []
    for word in part.split():
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", word):
            said.append(at.strftime("%H:%M:%S").startswith(word))
        elif word in MONTHS:
            said.append(at.month == MONTHS.index(word) + 1)
        elif re.fullmatch(r"\d{4}", word):
            said.append(at.year == int(word))
        elif word.isdigit():
            said.append(at.day == int(word))
        elif re.fullmatch("Mon|Tue|Wed|Thu|Fri|Sat|Sun", word):
            said.append(at.strftime("%a") == word)
        elif word != "on":
            return False
    return bool(said) and all(said)


def told(cell):
    """The times of a cell: a month or a time of day that is said once is of all of them."""
    parts = [part.strip() for part in cell.split(",")]
    time = re.match(r"(\d\d:\d\d(?::\d\d)?) on ", parts[0])
    month = parts[-1].split()[-1]
    for part in parts:
        if month in MONTHS and not any(name in part for name in MONTHS):
            part += f" {month}"
        yield f"{time[1]} {part}" if time and time[1] not in part else part


def rows(heading):
    text = re.split("^#+ ", PAGE.split(f" {heading}\n")[1], flags=re.MULTILINE)[0]
    for row in ROW.findall(text)[2:]:
        yield [cell.strip() for cell in row.split(" | ")]


checked = 0
with psycopg.connect() as connection:
    connection.execute("SET TimeZone = 'Europe/Berlin'")
    before = None
    for heading in ["Cron", "Intervals", "Periods and weekdays", "Sun"]:
        for cells in rows(heading):
            rules, day_and = re.findall("`([^`]+)`", cells[0]), "day_and" in cells[0]
            rules = [before] if day_and else rules
            if not re.search(r"\d", cells[-1]):
                continue
            before = rules[-1]
            told_of = cells[-1].split("; ")
            told_of *= len(rules) if len(told_of) == 1 else 1
            assert len(rules) == len(told_of), cells
            for rule, cell in zip(rules, told_of):
                times = fire_times(connection, rule, day_and)
                for part, at in zip(told(cell), times):
                    assert holds(part, at), f"{rule}: {part}, but it is {times}"
                    checked += 1
    for rule_cell, *days in rows("Time zones and clock changes"):
        for rule in re.findall("`([^`]+)`", rule_cell):
            for day, cell in zip(["2026-03-29", "2026-10-25"], days):
                times = re.findall(r"\d\d:\d\d\+\d\d", cell.partition("(")[0])
                call = "SELECT to_char(at, 'HH24:MITZH') FROM tq_next_runs(%s, 'Europe/Berlin', %s::date - interval '1 s', 60) AS at WHERE at::date = %s"
                fires = [row[0] for row in connection.execute(call, [rule, day, day])]
                first = fires.index(times[0])
                assert fires[first : first + len(times)] == times and (len(times) > 1 or len(fires) == 1), (rule, day, fires)
                checked += len(times)
    for choice, cell in rows("Ends of months"):
        call = "SELECT to_char(at, 'FMDD Mon') FROM tq_next_runs('monthly', after => '2026-01-31 12:00', n => 4, month_end => %s) AS at"
        fires = ", ".join(row[0] for row in connection.execute(call, [re.search("`([^`]+)`", choice)[1]]))
        assert fires == cell, (choice, fires)
        checked += 4
assert checked >= 140, checked
