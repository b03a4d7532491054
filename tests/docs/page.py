"""What a page says: its blocks, in order, each with who runs it.

Remarks in the page are comments of HTML, which no reader sees:

    <!-- as: acme in acme -->     the blocks from here to the end of this section are of that role, connected as itself,
                                  with that schema first on search_path; "as: oncall" leaves search_path as it is
    <!-- when: CONDITION -->      the next block is run as soon as this is true, asked in its own session
    <!-- not run: REASON -->      the next block isn't run
    <!-- run by: FILE -->         the page's blocks are run by that file of this repository
"""

import re
from dataclasses import dataclass, field

FENCE = re.compile(r"( *)```(\w*)$")
REMARK = re.compile(r"<!-- (as|when|not run|run by): (.+?) -->$")
HEADING = re.compile(r"(#+) (.+)")
AS = re.compile(r"(\w+)(?: in (\w+))?$")


@dataclass
class Block:
    line: int
    kind: str
    text: str
    section: str
    role: str | None = None
    schema: str | None = None
    when: str | None = None
    not_run: str | None = None
    # What the page shows as printed by it.
    shown: str | None = None


@dataclass
class Page:
    blocks: list[Block] = field(default_factory=list)
    run_by: str | None = None
    headings: list[tuple[int, str]] = field(default_factory=list)
    # The text between the blocks.
    prose: list[tuple[int, str]] = field(default_factory=list)
    # What can't be read as it is written: line, what.
    wrong: list[tuple[int, str]] = field(default_factory=list)


def read(path):
    page = Page()
    whose = {0: (None, None)}  # by the level of the heading under which it was said
    level, section, remarks = 0, "", {}
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        if fence := FENCE.match(line):
            indent, text = fence[1], []
            for _, inside in lines:
                if inside == f"{indent}```":
                    break
                text.append(inside.removeprefix(indent))
            role, schema = whose[max(whose)]
            block = Block(number, fence[2], "\n".join(text), section, role, schema, remarks.pop("when", None), remarks.pop("not run", None))
            add(page, block)
        elif heading := HEADING.match(line):
            level, section = len(heading[1]), heading[2]
            whose = {of: who for of, who in whose.items() if of < level}
            page.headings.append((number, section))
        elif remark := REMARK.match(line):
            if remark[1] == "as":
                who = AS.match(remark[2])
                whose[level] = (who[1], who[2]) if who else page.wrong.append((number, line))
            elif remark[1] == "run by":
                page.run_by = remark[2]
            else:
                remarks[remark[1]] = remark[2]
        elif line.startswith("<!-- ") and not line.startswith("<!-- Made by "):
            page.wrong.append((number, f"not a remark: {line}"))
        elif line.startswith("    "):
            page.wrong.append((number, "a block without a fence"))
        else:
            page.prose.append((number, line))
    page.wrong += [(0, f"a remark without a block: {name}: {text}") for name, text in remarks.items()]
    return page


def add(page, block):
    """Text behind a block that is run is what that one prints."""
    if block.kind == "text" and not block.not_run:
        before = page.blocks[-1] if page.blocks else None
        if before is None or before.shown is not None or before.kind not in ("sql", "sh"):
            page.wrong.append((block.line, "text that no block prints"))
        else:
            before.shown = block.text
    else:
        page.blocks.append(block)
