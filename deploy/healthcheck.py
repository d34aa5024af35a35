"""Asks the process of this container whether its event loop turns; exit status 0 when it does.

Ready is another question: a role that waits for NATS is well, and killing it would not help.
"""

import http.client
import os
import sys

PORTS = (9700, 9701, 9702, 9703, 9704, 9705)
TIMEOUT_S = 2.0


def is_live(port: int) -> bool | None:
    """Return whether the process behind a port is live, None when nothing listens there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == http.client.OK
    except ConnectionRefusedError:
        return None
    except OSError:
        return False
    finally:
        connection.close()


def main() -> int:
    """Return the exit status."""
    chosen = os.environ.get("MARKET_INGESTOR_METRICS__PORT")
    for port in (int(chosen),) if chosen else PORTS:
        answer = is_live(port)
        if answer is not None:
            return 0 if answer else 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
