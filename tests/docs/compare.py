"""Whether what was printed is what a page shows.

A page shows the end of what a block prints, in whole lines. Widths of columns and the number of rows below a table don't
count. Any id stands for any other; a time for any other within a hundred days of now, for such a time comes of the clock; a
length of time with a fraction of a second for any other. `…` stands for anything in a line, and alone for any lines.
"""

import re
from datetime import date, timedelta

ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::\d\d)?)?)?"
LENGTH = r"(?:\d+ days? )?\d\d:\d\d:\d\d\.\d+"
ANY_LENGTH = r"(?:\d+ days? )?\d\d:\d\d:\d\d(?:\.\d+)?"
TOKEN = re.compile(f"({ID})|({TIME})|({LENGTH})|(…)")
ROWS = re.compile(r"\(\d+ rows?\)$")


def folded(text):
    """Its lines without what doesn't count."""
    lines = []
    for line in text.splitlines():
        line = re.sub("-{2,}", "-", line) if re.fullmatch(r" *-[-+ ]*|-\[ RECORD \d+ \][-+]*", line) else line
        line = re.sub(" +", " ", line).strip()
        if line and not ROWS.match(line):
            lines.append(line)
    return lines


def pattern(line):
    parts, at = [], 0
    for token in TOKEN.finditer(line):
        parts.append(re.escape(line[at : token.start()]))
        if token[1]:
            parts.append(ID)
        elif token[2]:
            parts.append(f"(?:{re.escape(token[2])}|{TIME})")
        elif token[3]:
            parts.append(ANY_LENGTH)
        else:
            parts.append(".*?")
        at = token.end()
    return "".join(parts) + re.escape(line[at:])


def near(text):
    return abs(date.fromisoformat(text[:10]) - date.today()) < timedelta(days=100)


def times_differ(shown, printed):
    """Whether a time that doesn't come of the clock is another one."""
    told, seen = re.findall(TIME, shown), re.findall(TIME, printed)
    return "…" not in shown and any(a != b and not near(b) for a, b in zip(told, seen))


def same(shown, printed):
    told, seen = folded(shown), folded(printed)
    # From the end, so that nothing behind what is shown is passed over.
    return ends_with(told, seen)


def ends_with(told, seen):
    if not told:
        return True
    *rest, last = told
    if last == "…":
        return any(ends_with(rest, seen[:end]) for end in range(len(seen), -1, -1))
    if not seen or not re.fullmatch(pattern(last), seen[-1]) or times_differ(last, seen[-1]):
        return False
    return ends_with(rest, seen[:-1])
