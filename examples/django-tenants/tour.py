"""A walk through the site by HTTP, as people use it: a company signs up, writes invoices, is paid, asks for a report, and
its day is closed. Each step waits for what the worker makes of it, and looks whether that is so."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

SECONDS = 60


class Browser:
    """Of one company: it sends the host's name, whatever that resolves to here."""

    def __init__(self, port: int, host: str) -> None:
        self.port = port
        self.headers = {"Host": f"{host}:{port}"}

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        connection.request(method, path, body, {**self.headers, **form})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if answer.status >= 400:
            raise AssertionError(f"{method} {path} of {self.headers['Host']}: {answer.status}\n{text[:2000]}")
        return answer, text

    def get(self, path: str) -> str:
        answer, text = self.ask("GET", path)
        cookie = re.search(r"csrftoken=[^;]+", answer.headers.get("Set-Cookie", ""))
        if cookie:
            self.headers["Cookie"] = cookie[0]
        return text

    def json(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(path))
        return found

    def post(self, path: str, page: str = "/", **fields: str) -> str:
        """What a form of that page sends; where it leads."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(page))
        assert token, f"{page} has no form"
        answer, _ = self.ask("POST", path, urlencode({**fields, "csrfmiddlewaretoken": token[1]}))
        return answer.headers["Location"]


def until(what: str, found: Callable[[], Any]) -> Any:
    """Until it is so."""
    deadline = time.monotonic() + SECONDS
    while not (so := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: it never was")
        time.sleep(0.05)
    return so


def ended(browser: Browser, path: str) -> dict[str, Any]:
    """A task's page, once it has ended."""

    def look() -> dict[str, Any] | None:
        found = browser.json(path)
        return found if found["state"] in ("done", "failed", "cancelled", "expired", "quarantined") else None

    return until(path, look)


def tour(port: int, company: str, fire: Callable[[str, str], Any], say: Callable[[str], None] = print) -> None:
    """All of it, for one company. fire(schema, name) lets a schedule be due. Raises AssertionError."""
    office = Browser(port, "localhost")
    made = ended(office, office.post("/", name=company))
    assert made["state"] == "done", made
    say(f"{company} has signed up: http://{made['domain']}:{port}/")

    again = ended(office, office.post("/", name=company))
    assert again["state"] == "failed" and "is taken" in again["error"], again

    browser = Browser(port, made["domain"])
    until("a welcome", lambda: f"{company}: welcome" in browser.get("/"))
    for customer, amount in [("Ann", "12.50"), ("Bob", "7.00"), ("Ann", "0.50")]:
        browser.post("/", customer=customer, amount=amount)
    until("three mails", lambda: browser.get("/").count("Please pay") == 3)
    say("  three invoices are written and sent")

    owed = ended(browser, browser.post("/report"))
    assert owed["state"] == "done" and owed["result"] == {"Ann": "13.00", "Bob": "7.00"}, owed
    say(f"  the report says who owes what: {owed['result']}")

    paid = [ended(browser, path) for path in [browser.post(f"/invoices/{number}/pay") for number in (1, 2, 3)]]
    assert {each["state"] for each in paid} == {"done"} and len({each["result"] for each in paid}) == 3, paid
    assert browser.get("/").count("paid by ch_") == 3, browser.get("/")
    say(f"  all are paid: {', '.join(each['result'] for each in paid)}")

    fire(made["domain"].split(".")[0].replace("-", "_"), "close day")
    until("a closing", lambda: ": 20.00" in browser.get("/"))
    say("  its day is closed")
