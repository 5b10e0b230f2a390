"""A listener in a process of its own, with the whole durable reception: spool, ledger, then success.

Run as `python -m benchmarks.reception_server FOLDER`; prints its port, and stops when standard input ends.
"""

import sys
from pathlib import Path

from daemon.clock import SystemClock
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.ledger.engine import connect
from daemon.ledger.intake import Intake
from daemon.ledger.migrate import upgrade
from daemon.services.receive import Reception
from daemon.spool.store import Spool

HEADROOM = 1 << 30


def main() -> None:
    """Serve until standard input ends."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    engine = connect(f"sqlite:///{folder / 'ledger.sqlite'}")
    upgrade(engine)
    intake = Intake(engine)
    reception = Reception(Spool(folder / "spool", HEADROOM), intake, SystemClock(), patient_salt=b"benchmark")
    with Listener(ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True), reception) as listener:
        print(listener.port, flush=True)
        sys.stdin.read()
    intake.close()


if __name__ == "__main__":
    main()
