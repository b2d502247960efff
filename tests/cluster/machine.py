"""A machine of a test cluster: processes in a network of their own, and what can happen to a machine."""

import itertools
import pathlib
import signal
import subprocess
import sys
import threading

from tests.cluster import confinement
from tests.cluster.certificates import MACHINES, machine_address
from tests.cluster.node_network import link_of
from tests.harness import muster, processes

HERE = pathlib.Path(__file__).resolve().parent
RECLAIMED = "machine.test/reclaimed"  # the taint of a machine whose cloud wants it back


class Machine:
    """Starts as the node `name` on construction; subclasses say what runs. A test calls its methods from one thread."""

    _turns = itertools.cycle(MACHINES)  # a number comes back only after all others, while something may still ask for its address
    _taken = set()

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.folder = cluster.folder / "nodes" / name
        self.folder.mkdir(parents=True)
        self.number = next(number for number, _ in zip(self._turns, MACHINES) if number not in self._taken)
        self._taken.add(self.number)
        self.address = machine_address(self.number)
        self.process = None
        self._is_cut_off = False
        self._parted = []
        self._frozen = []
        self._notice, self._over = None, threading.Event()

    def start(self, *command, **options):
        """Runs `command` in the machine's network; when that ends, so does the machine."""
        with open(self.folder / "node.log", "ab") as log:
            self.process = subprocess.Popen(
                self.cluster.inside(sys.executable, HERE / "node_network.py", self.number, *command),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options)

    def wait_ready(self, seconds=60):
        """A machine that does not become ready is closed, since nobody gets hold of it when it fails under construction."""
        try:
            muster.wait_until(self._ready, seconds, f"node {self.name}", self.log)
        except muster.Late:
            self.close()
            raise

    def _ready(self):
        if not self.is_on():
            raise muster.Late(f"node {self.name} has ended:\n{self.log()}")
        return self.condition() == "True"

    def condition(self):
        """What the API server says of whether it is ready: "True", "False", "Unknown", or nothing of a node that is not there."""
        return self.cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[?(@.metadata.name=='" + self.name +
                                    "')].status.conditions[?(@.type=='Ready')].status}")

    def is_on(self):
        return self.process.poll() is None

    def log(self):
        return (self.folder / "node.log").read_text(errors="replace")

    def pid(self):
        """Its first process: nsenter has a child of its own in the cluster."""
        return (processes.children(self.process.pid) or [self.process.pid])[0]

    def inside(self, *command):
        """`command` as it is to be written to run in the machine's network."""
        return ["nsenter", "--target", str(self.pid()), "--net", "--", *map(str, command)]

    def freeze(self):
        """As when a machine hangs: all that runs on it stops where it is, and nobody is told. Connections stay open."""
        # Until nobody is left who could start another one.
        while new := [pid for pid in processes.descendants(self.process.pid) if pid not in self._frozen]:
            for pid in new:
                muster.send(pid, signal.SIGSTOP)
            self._frozen += new

    def thaw(self):
        """Undoes freeze()."""
        for pid in reversed(self._frozen):
            muster.send(pid, signal.SIGCONT)
        self._frozen = []

    def cut_off(self):
        """As when a cable breaks: nothing passes between this machine, its pods included, and all others. Both sides see silence only."""
        if not self._is_cut_off:
            self._drop("-I")
            self._is_cut_off = True

    def join_up(self):
        """Undoes cut_off()."""
        if self._is_cut_off:
            self._drop("-D")
            self._is_cut_off = False

    def part_from(self, other):
        """As when a switch fails: nothing passes between these two machines; both reach all others."""
        self._parted.append(other)
        self._drop_between("-I", other)

    def meet_all(self):
        """Undoes part_from()."""
        for other in self._parted:
            self._drop_between("-D", other)
        self._parted = []

    def _drop(self, action):
        # Before and after all rules of kube-proxy, which would let through what belongs to a connection.
        self._filter("raw", action, "PREROUTING", "-i", link_of(self.number))
        self._filter("mangle", action, "POSTROUTING", "-o", link_of(self.number))

    def _drop_between(self, action, other):
        for sender, receiver in ((self, other), (other, self)):
            self._filter("raw", action, "PREROUTING", "-i", link_of(sender.number), "-d", f"{receiver.address}/24")

    def _filter(self, table, action, chain, *packets):
        confinement.run(*self.cluster.inside("iptables", "--wait", "-t", table, action, chain, *packets, "-j", "DROP"))

    def reclaim(self, notice_seconds):
        """As when a cloud takes a spot machine back: no new pods, those here are evicted (which gives them the condition
        DisruptionTarget), and when the notice is over the power goes, whatever still runs. Returns at once."""
        kubectl = self.cluster.kubectl
        kubectl("taint", "node", self.name, f"{RECLAIMED}:NoSchedule")
        drain = subprocess.Popen(kubectl.command("drain", self.name, "--force", "--ignore-daemonsets", "--delete-emptydir-data",
                                                 f"--timeout={max(1, round(notice_seconds))}s"),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def wait():
            self._over.wait(notice_seconds)
            drain.kill()
            drain.wait()
            self._power_off()

        self._notice = threading.Thread(target=wait)
        self._notice.start()

    def switch_off(self):
        """As when the power goes: all that ran on it is gone, and nobody has been told."""
        self._end_notice()
        self._power_off()

    def _power_off(self):
        if self.is_on():
            # nsenter stops with a child that is frozen, so it does not end with it.
            for pid in (self.pid(), self.process.pid):
                muster.send(pid, signal.SIGKILL)
            self.process.wait(timeout=10)

    def _end_notice(self):
        if self._notice:
            self._over.set()
            self._notice.join()

    def close(self):
        """Nothing of it is left in the machine below; its objects in the API server stay. May be repeated."""
        self.switch_off()
        self.join_up()
        self.meet_all()
        self._taken.discard(self.number)
