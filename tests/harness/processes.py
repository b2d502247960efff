"""What of a MUSTER_HOME is running: found in /proc, so that it does not depend on what the launcher believes.

A process belongs to a home if its command line or its environment names the home's path; every process of a job inherits that.
"""

import dataclasses
import os
import pathlib
import re


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    state: str
    command: tuple

    @property
    def role(self):
        """launcher, coordinator, agent or worker; by the command line."""
        words = self.command
        if len(words) > 1 and os.path.basename(words[0]) == "launcher":
            return words[1] if words[1] in ("coordinator", "agent") else "launcher"
        return "worker"

    @property
    def slot(self):
        """Of an agent: "w-3"."""
        return self.command[self.command.index("--slot") + 1] if "--slot" in self.command else None


def read(pid):
    """The process, or None when it has gone (a zombie counts as gone: nothing of it runs)."""
    folder = pathlib.Path("/proc") / str(pid)
    try:
        stat = (folder / "stat").read_text()
        command = tuple(os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0")[:-1])
    except OSError:
        return None
    state, parent = stat[stat.rindex(")") + 2:].split()[:2]
    return None if state in "ZX" else Process(pid, int(parent), state, command)


def is_alive(pid):
    return read(pid) is not None


def nice_values(pid):
    """Of all threads of a process; none if it has gone."""
    values = set()
    for stat in pathlib.Path("/proc").glob(f"{pid}/task/*/stat"):
        try:
            values.add(int(stat.read_text().rpartition(")")[2].split()[16]))
        except OSError:
            continue
    return values


def children(pid):
    """The ids of its children; none if it has gone."""
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid):
    """`pid` and all that it has started, and these, each before its children; also what threads other than the first have started."""
    found = [pid]
    for parent in found:
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                found += [int(word) for word in pathlib.Path(f"/proc/{parent}/task/{thread}/children").read_text().split()]
        except OSError:
            pass  # it has ended
    return found


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _names(pid, home):
    for file in ("cmdline", "environ"):
        try:
            if home in pathlib.Path(f"/proc/{pid}/{file}").read_bytes():
                return True
        except OSError:
            pass
    return False


def of_home(home):
    """All living processes of `home`, without this one."""
    home = os.fsencode(str(home))
    found = [read(pid) for pid in _pids() if pid != os.getpid() and _names(pid, home)]
    return [process for process in found if process]


def listening_ports(pids):
    """TCP ports on which processes `pids` listen, as {port: address}."""
    inodes = set()
    for pid in pids:
        try:
            links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        inodes |= {found.group(1) for link in links if (found := re.match(r"socket:\[(\d+)\]", link))}
    ports = {}
    for table in ("tcp", "tcp6"):
        try:
            rows = pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                ports[int(port, 16)] = address
    return ports


def shared_memory():
    """What of a job lies in /dev/shm; memory of memfd_create never does, and fuzz targets work in folders there."""
    try:
        return {name for name in os.listdir("/dev/shm") if "muster" in name and not name.startswith("muster-fuzz-")}
    except OSError:
        return set()
