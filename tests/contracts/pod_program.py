"""The leader of a test pod: starts what its arguments name, then exits as its pipe says.

deaf       ignore SIGTERM
child      a child in the same session
orphan     a child that leaves the session and whose parent is gone
bare       a child in the same session with an empty environment
stray      a child that leaves the session with an empty environment and whose parent is gone
fork       a fork that holds everything the leader holds
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_IDLE = ["sleep", "100000"]


def _start(option: str) -> None:
    if option == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif option == "child":
        subprocess.Popen(_IDLE)
    elif option == "orphan":
        subprocess.run(["sh", "-c", "setsid sleep 100000 &"], check=True)
    elif option == "bare":
        subprocess.Popen(["/bin/sleep", "100000"], env={})
    elif option == "stray":
        script = "setsid env -i sh -c 'echo $$ > stray; exec sleep 100000' &"
        subprocess.run(["sh", "-c", script], check=True)
    elif option == "fork":
        if os.fork() == 0:
            signal.pause()
    else:
        raise SystemExit(f"unknown option {option}")


def main() -> None:
    """Be a leader."""
    control, *options = sys.argv[1:]
    for option in options:
        _start(option)
    # Printed for the test that looks for the last words.
    sys.stdout.write("ready to serve\n")
    sys.stdout.flush()
    Path("ready").write_text(str(os.getpid()))
    with Path(control).open() as pipe:
        raise SystemExit(int(pipe.readline()))


if __name__ == "__main__":
    main()
