"""A payment provider as others are: it is away now and then, and a charge that comes again with the same key is the same
charge. It keeps its books in a file of its own (SITE_PROVIDER), as one elsewhere does, outside of any transaction."""

import fcntl
import json
import os
import tempfile
from pathlib import Path


class ProviderAway(ConnectionError):
    """Nothing was heard of it. It may have charged all the same."""


def _books() -> Path:
    return Path(os.environ.get("SITE_PROVIDER") or Path(tempfile.gettempdir()) / f"billing-provider-{os.getuid()}.json")


def charge(amount: str, *, idempotency_key: str) -> str:
    """Charges, once for each key, and loses its first answer to every third charge."""
    with _books().open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        charges = json.loads(file.read() or "{}")
        known = charges.get(idempotency_key)
        if known is None:
            known = charges[idempotency_key] = {"id": f"ch_{len(charges) + 1}", "amount": amount}
            file.truncate(0)
            file.write(json.dumps(charges))
            file.flush()
            if len(charges) % 3 == 0:
                raise ProviderAway("the connection was reset")
        return str(known["id"])


def charges() -> dict[str, dict[str, str]]:
    """All of them, by key."""
    return json.loads(_books().read_text() or "{}") if _books().exists() else {}
