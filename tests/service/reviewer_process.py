"""A reviewer as a process that can be killed: leases, decides, writes down each decision that was acknowledged.

    python reviewer_process.py URL NAME FILE

Lines of FILE: `leased ID LEASE` before it decides, `decided ID OUTCOME` after the service said so. What cannot be
reached is tried again: the same decision with the same lease, as a client would that lost the answer.
"""

import http.client
import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit


def outcome_of(id_: int) -> str:
    """What every reviewer decides of an item."""
    return "allow" if id_ % 3 else "block"


def post(address: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and body; tried again until it is answered."""
    while True:
        connection = http.client.HTTPConnection(address, timeout=5)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.05)
        finally:
            connection.close()


def main(url: str, name: str, file: str) -> None:
    """Run until killed."""
    address = urlsplit(url).netloc
    written = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        status, answer = post(address, "/v1/reviews/lease", {"reviewer": name, "limit": 3, "lease_seconds": 1.5})
        items = answer["items"] if status == 200 else []
        if not items:
            time.sleep(0.05)
        for item in items:
            id_, outcome = item["id"], outcome_of(item["id"])
            os.write(written, f"leased {id_} {item['lease']}\n".encode())
            status, _ = post(
                address, f"/v1/reviews/{id_}/decision", {"lease": item["lease"], "outcome": outcome, "note": name}
            )
            if status == 200:
                os.write(written, f"decided {id_} {outcome}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
