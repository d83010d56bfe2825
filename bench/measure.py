#!/usr/bin/env python3
"""Run a command once and note what it took.

    measure.py RESULTS ROW SIDE SIZE COMMAND [ARG...]

appends a line to RESULTS: row, side, size, wall seconds, CPU seconds (user and
system, of the command and its children), peak resident memory in KiB (the
largest of them). A command that fails ends the run, with what it said.
"""

import os
import sys
import tempfile
import time


def main():
    results, row, side, size, *command = sys.argv[1:]
    with tempfile.TemporaryFile() as said:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
        ]
        start = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            sys.exit(f"{row}, {side}: {' '.join(command)}: exit {code}")
    cpu = usage.ru_utime + usage.ru_stime
    with open(results, "a") as f:
        f.write(f"{row}\t{side}\t{size}\t{wall:.6f}\t{cpu:.6f}\t{usage.ru_maxrss}\n")
    sys.stderr.write(f"  {row}, {side}: {wall:.3f} s, CPU {cpu:.3f} s, {usage.ru_maxrss / 1024:.0f} MiB\n")


main()
