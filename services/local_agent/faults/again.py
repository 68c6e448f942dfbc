"""Between two lives of the agent: waits with nothing open, then executes it again. Standard library only.

    python -I -S again.py SECONDS EXECUTABLE ARGUMENT...

The process id stays, and so do the agent's children. Any signal that ends a process ends this one.
"""

import os
import signal
import sys
import time


def main() -> None:
    """Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    time.sleep(float(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the agent that was here before


if __name__ == "__main__":
    main()
