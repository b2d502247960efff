"""A place of its own for a cluster: namespaces for network, processes and mounts that vanish with their first process.

Whatever runs inside, pods that have left every session included, dies by the kernel's hand when the place is left. Nothing inside
listens on the host; one relay on the host's loopback leads to one port inside.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind, flags=0, data=None):
    """As mount(2)."""
    encoded = [os.fsencode(word) if word is not None else None for word in (source, target, kind)]
    _check(_libc.mount(*encoded, flags, os.fsencode(data) if data else None), f"mount {target}")


def _die_with_parent():
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def _reap_until(child):
    """What a first process does: waits for whoever lost its parent. Returns the exit code of `child`."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def confined(inside, network=True):
    """Runs `inside()` as a process in a new place and returns its exit code; both end when this process does.

    Without `network` the place shares the network of this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWPID | (CLONE_NEWNET if network else 0)), "unshare")
    first = os.fork()
    if first == 0:
        _die_with_parent()
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc")
        manager = os.fork()
        if manager == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
            try:
                inside()
                code = 0
            except BaseException as error:  # noqa: BLE001 - the exit code is the only way out
                print(f"cluster: {error}", file=sys.stderr, flush=True)
                code = 1
            os._exit(code)
        code = _reap_until(manager)
        os._exit(code if code >= 0 else 128 - code)

    def leave(*_):
        os.kill(first, signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def run(*command):
    """A command that must succeed, such as `ip`."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_input(descriptor, seconds):
    """Whether there is something to read, its end included, within `seconds`."""
    return bool(select.select([descriptor], [], [], seconds)[0])


def relay(listener, port):
    """Serves `listener`, a socket of the host, with what 127.0.0.1:`port` answers in here."""

    def carry(outer):
        with outer, socket.create_connection(("127.0.0.1", port)) as inner:
            other = {outer: inner, inner: outer}
            open_ends = {outer, inner}
            while open_ends:
                for end in select.select(list(open_ends), [], [])[0]:
                    data = end.recv(1 << 16)
                    if data:
                        other[end].sendall(data)
                    else:
                        open_ends.discard(end)
                        other[end].shutdown(socket.SHUT_WR)

    def quietly(outer):
        try:
            carry(outer)
        except OSError:
            pass  # either side has hung up; both sockets are closed

    def accept():
        while True:
            outer, _ = listener.accept()
            threading.Thread(target=quietly, args=(outer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
