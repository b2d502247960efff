"""A network of its own for a machine of the cluster and its pods, behind one link to the cluster's network.

    node_network.py NUMBER PROGRAM ARGUMENTS...    inside the cluster: joins it as machine NUMBER and becomes PROGRAM

Machine N has the addresses 10.200.N.0/24 and is itself the first of them; its end of the link is `up0`, the cluster's is `nodeN`.
Whatever pods send leaves through that link, even if it is for another pod of this machine: the addresses of services are
rewritten in the cluster's network (there is one kube-proxy, not one for each machine), and answers have to pass there too.
"""

import ctypes
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster.certificates import NODE_ADDRESS, machine_address  # noqa: E402
from tests.cluster.confinement import CLONE_NEWNET  # noqa: E402

UPLINK = "up0"
PODS_TABLE = 100


def link_of(number):
    return f"node{number}"


def _ip(batch, *where, **options):
    done = subprocess.run([*where, "ip", "-batch", "-"], input=batch, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"node_network: ip: {done.stderr.strip()}; it was told:\n{batch}")


def _set(name, value):
    (pathlib.Path("/proc/sys/net/ipv4") / name).write_text(str(value))


def join(number):
    """This process leaves the cluster's network for a new one that is linked to it."""
    own, link = machine_address(number), link_of(number)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        sys.exit("node_network: a network namespace is refused")
    _ip(f"link add {link} type veth peer name {UPLINK} netns {os.getpid()}\n"
        f"addr add {NODE_ADDRESS}/32 dev {link}\nlink set {link} up\n"
        f"route add {own}/32 dev {link}\nroute add {own.rpartition('.')[0]}.0/24 via {own} dev {link}\n",
        "nsenter", f"--net=/proc/self/fd/{outside}", "--", pass_fds=[outside])
    os.close(outside)
    _set("ip_forward", 1)
    for name in ("all", "default", UPLINK):
        _set(f"conf/{name}/rp_filter", 0)  # what pods send comes back by another way than it would be answered
    _ip(f"link set lo up\naddr add {own}/32 dev {UPLINK}\nlink set {UPLINK} up\n"
        f"route add {NODE_ADDRESS} dev {UPLINK} scope link\nroute add default via {NODE_ADDRESS}\n"
        f"route add default via {NODE_ADDRESS} table {PODS_TABLE}\n"
        f"rule add priority 100 iif {UPLINK} lookup main\nrule add priority 101 iif lo lookup main\n"
        f"rule add priority 102 lookup {PODS_TABLE}\n")


if __name__ == "__main__":
    join(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
