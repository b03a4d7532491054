"""A psql that stays, as one that somebody types into."""

import os
import select
import subprocess
import time

END = "that was the block"
LIMIT = 60


class Session:
    def __init__(self, database, role, schema=None):
        self.who = f"{role} in {schema}" if schema else role
        options = f"-c search_path={schema},public" if schema else ""
        # stdbuf: what psql prints and what it complains of come in the order in which they were said.
        self.psql = subprocess.Popen(
            ["stdbuf", "-o0", os.environ["PSQL"], "-X", "-q", "-U", role, "-d", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PGOPTIONS": options},
        )

    def run(self, text):
        """What it prints. Raises where it doesn't come to an end."""
        self.psql.stdin.write(f"{text}\n\\echo {END}\n".encode())
        self.psql.stdin.flush()
        printed, deadline = b"", time.monotonic() + LIMIT
        while not printed.endswith(f"{END}\n".encode()):
            ready, _, _ = select.select([self.psql.stdout], [], [], deadline - time.monotonic())
            more = os.read(self.psql.stdout.fileno(), 65536) if ready else b""
            printed += more
            if not more:
                self.close()
                raise TimeoutError(f"psql of {self.who} does not answer; it has said:\n{printed.decode()}")
        return printed.decode().removesuffix(f"{END}\n")

    def close(self):
        self.psql.stdin.close()
        try:
            self.psql.wait(5)
        except subprocess.TimeoutExpired:
            self.psql.kill()
            self.psql.wait()
