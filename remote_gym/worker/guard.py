"""Child side: a worker, and whatever its environments started, never outlives the server; nor has it its signals.

The server holds the write end of a pipe and never writes. When it is gone, however it died, the pipe is hung up. On
Linux the kernel itself then sends SIGKILL to our whole process group: no code of ours has to run, so an environment
that holds the GIL for ever, or a grandchild, cannot escape. Elsewhere a thread waits for the hang-up and does the same.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading


def die_with_the_server(pipe: int) -> None:
    """Arrange that this process group is killed when the other end of `pipe` is closed.

    Relies on: this process leads its own process group (it was started with `start_new_session`), or is in one whose
    leader is not to be seen from its namespace of processes; then it leads a new one.
    """
    if os.getpgrp() == 0:
        os.setpgid(0, 0)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        # It may have been closed before we were listening.
        if select.select([pipe], [], [], 0)[0]:
            os.killpg(os.getpgrp(), signal.SIGKILL)
    else:
        threading.Thread(target=_wait_and_kill, args=(pipe,), name="remote_gym guard", daemon=True).start()


def reset_signals() -> None:
    """Let signals do here what they do in a new process: what the server's process ignores or blocks is inherited.

    An ignored SIGCHLD would hide how an environment's own subprocesses end. SIGHUP stays as it is (``nohup``), and so
    do those that Python itself ignores.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    kept = {getattr(signal, name, None) for name in ("SIGHUP", "SIGPIPE", "SIGXFZ", "SIGXFSZ")}
    for number in signal.valid_signals() - kept:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the server's terminal is the server's to handle


def _wait_and_kill(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
