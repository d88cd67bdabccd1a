"""Exit 0 if the service accepts posts. The image has no curl, and http.client ignores proxies in the environment."""

import os
import sys
from http.client import HTTPConnection, HTTPException

SECONDS = 2.5  # less than the timeout of the Dockerfile's HEALTHCHECK, so that this script gets to say why


def main() -> int:
    """Ask ``/health/ready``."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("SMNER_PORT", "8000")), timeout=SECONDS)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        print(answer.status, answer.read(1000).decode("utf-8", "replace"))
    except (OSError, HTTPException) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
