"""A run of the command line that gets a signal at a given moment."""

from __future__ import annotations

import signal
import subprocess
import sys

# A process that gets a signal just before the so-many-th file of one kind is put in its place. Files are put on record
# as soon as they are finished, so that a run of a second has something to go on with.
STOPPED = """
import os, sys
from hear_audiomamba.archive import keeper
from hear_audiomamba.cli import main
signal, ending, left = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
keeper.KEEP_SECONDS = 0.0
def look(event, arguments):
    global left
    if event == "os.rename" and str(arguments[1]).endswith(ending):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal)
sys.addaudithook(look)
sys.exit(main(sys.argv[4:]))
"""


def run_until(number: int, ending: str, count: int, *words: object) -> str:
    """Run until the `count`-th file with this ending is made; return what the interrupted run said."""
    given = [sys.executable, "-c", STOPPED, *map(str, (int(number), ending, count, *words))]
    # Where the tests run in the background of a script, they ignore Ctrl-C, and so would the run.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = subprocess.run(given, capture_output=True, text=True, timeout=900)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    return done.stderr
