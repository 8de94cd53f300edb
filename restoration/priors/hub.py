"""Whether the Hugging Face Hub can be asked: its client alone would try for minutes before it gives up
without a network.
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

SECONDS = 3.0


def reachable() -> bool:
    """Whether the Hub takes a connection within SECONDS; False where HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    # for its telemetry the client asks the Hub, stored files or not, as long as a name server is silent
    constants.HF_HUB_DISABLE_TELEMETRY = True
    url, answers = urlsplit(constants.ENDPOINT), list[bool]()

    def connect() -> None:
        try:
            socket.create_connection(
                (url.hostname or "", url.port or (80 if url.scheme == "http" else 443)), SECONDS
            ).close()
            answers.append(True)
        except OSError:
            answers.append(False)

    if constants.HF_HUB_OFFLINE:
        return False
    # looking up the name has no time limit of its own
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answers == [True]
