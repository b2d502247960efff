"""A node with a real kubelet, containerd and runc: what process nodes leave out, images, users and limits above all, is real here.

    node = KubeletNode(cluster, "node-k", images=[archive])

It lives in namespaces of its own. Whatever the programs would write outside of the node's folder, and the settings of the machine
that a kubelet changes, is covered by mounts that vanish with it. What cannot be covered are control groups: one process outside
waits for the end of the node, however it comes, and removes its groups.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from k8s.image import oci  # noqa: E402
from tests.cluster import confinement  # noqa: E402
from tests.cluster.certificates import Authority  # noqa: E402
from tests.cluster.control_plane import SERVER_FOR_MACHINES  # noqa: E402
from tests.cluster.machine import Machine  # noqa: E402

PLUGINS = pathlib.Path("/usr/lib/cni")  # where Debian puts them
PAUSE = "muster-test-pause:1"
GROUPS = pathlib.Path("/sys/fs/cgroup")
KUBELET_PORT = 10250
SWEEP_SECONDS = 20
# What the kubelet wants of the machine and would set, for all that runs on it.
SETTINGS = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
            "kernel/keys/root_maxkeys": 1_000_000, "kernel/keys/root_maxbytes": 25_000_000}
# Folders in which programs write without being asked to.
COVERED = ("/var/lib", "/var/log", "/opt", "/etc")


def missing():
    """One sentence about what this machine lacks for such a node; empty if nothing."""
    for program in ("containerd", "ctr", "runc"):
        if not shutil.which(program):
            return f"`{program}` is not installed (tools/setup cluster installs it)"
    for plugin in ("ptp", "host-local", "loopback"):
        if not (PLUGINS / plugin).exists():
            return f"the network plugin `{plugin}` is not in {PLUGINS} (tools/setup cluster installs it)"
    if not any((GROUPS / name).exists() for name in ("memory", "cgroup.controllers")):
        return f"no control groups are mounted at {GROUPS}"
    return ""


class KubeletNode(Machine):
    """Ready for pods, and with `images` (archives) in its store, when constructed."""

    def __init__(self, cluster, name, images=()):
        super().__init__(cluster, name)
        authority = Authority(cluster.folder / "pki")
        authority.sign(name, f"/O=system:nodes/CN=system:node:{name}")
        authority.kubeconfig(name, SERVER_FOR_MACHINES)
        self.group = f"muster-{uuid.uuid4().hex[:12]}"
        ended, alive = os.pipe()  # all that belongs to the node holds the other end
        self.sweeper = subprocess.Popen([sys.executable, __file__, "sweep", self.group], stdin=ended, start_new_session=True)
        os.close(ended)
        facts = {"name": name, "address": self.address, "folder": str(self.folder), "group": self.group, "alive": alive,
                 "programs": str(pathlib.Path(cluster.facts["kubectl"]).parent), "images": [str(path) for path in images]}
        self.start(sys.executable, __file__, "run", json.dumps(facts), pass_fds=[alive])
        os.close(alive)
        self.wait_ready(seconds=90)

    def log(self):
        """The last lines of all its programs."""
        return "\n".join(f"{path.name}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-40:])
                         for path in sorted(self.folder.glob("*.log")))

    def close(self):
        super().close()
        self.sweeper.wait(timeout=SWEEP_SECONDS + 5)


def tops(group):
    """The folders of a node's root group: one in each hierarchy."""
    return [path for pattern in (group, f"*/{group}") for path in GROUPS.glob(pattern)]


def sweep(group):
    """Removes the control groups of a node once it has ended, which is when standard input ends."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + SWEEP_SECONDS
    while left := tops(group):
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass  # the last process in it is on its way out
        if time.monotonic() > deadline:
            sys.exit(f"kubelet_node: these control groups could not be removed: {left}")
        time.sleep(0.05)


class Node:
    """The inside of the node: its files, its programs."""

    def __init__(self, facts):
        self.facts, self.folder = facts, pathlib.Path(facts["folder"])
        self.containerd, self.kubelet = self.folder / "containerd", self.folder / "kubelet"
        self.socket = self.containerd / "containerd.sock"
        for folder in (self.containerd, self.kubelet, self.folder / "cni"):
            folder.mkdir()
        self.processes = {}

    def cover(self):
        """Hides the places of the machine below that the programs change."""
        confinement.mount("tmpfs", "/run", "tmpfs", data="mode=755")
        covers = pathlib.Path("/run/covers")
        covers.mkdir()
        for number, place in enumerate(COVERED):
            upper, work = covers / str(number) / "upper", covers / str(number) / "work"
            upper.mkdir(parents=True)
            work.mkdir()
            confinement.mount("overlay", place, "overlay", data=f"lowerdir={place},upperdir={upper},workdir={work}")
        for number, (name, value) in enumerate(SETTINGS.items()):
            setting = covers / f"setting-{number}"
            setting.write_text(f"{value}\n")
            confinement.mount(setting, f"/proc/sys/{name}", None, confinement.MS_BIND)

    def make_groups(self):
        """The kubelet wants its root group to exist, in each hierarchy (version 1) or in the only one (version 2)."""
        only = (GROUPS / "cgroup.controllers").exists()
        for hierarchy in [GROUPS] if only else [path for path in GROUPS.iterdir() if path.is_dir() and not path.is_symlink()]:
            group = hierarchy / self.facts["group"]
            group.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # empty in new groups of version 1, where nothing can run then
                if not only and (group / name).exists():
                    (group / name).write_text((hierarchy / name).read_text())

    def run(self):
        self.cover()
        self.make_groups()
        self._start_containerd()
        self._import_images()
        self._start_kubelet()
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    sys.exit(f"kubelet_node: {name} ended with {process.returncode}")
            time.sleep(0.2)

    def _start(self, name, *command):
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/run"}
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log,
                                                    stderr=subprocess.STDOUT, env=environment)

    def _start_containerd(self):
        runtime = {"restrict_oom_score_adj": True,  # without CAP_SYS_RESOURCE nobody may lower it
                   "disable_apparmor": True,  # its profile would stay in the kernel
                   "sandbox_image": f"docker.io/library/{PAUSE}", "stream_server_address": "127.0.0.1"}
        network = {"bin_dir": str(PLUGINS), "conf_dir": str(self.folder / "cni")}
        # JSON's strings, numbers and booleans are TOML's.
        lines = ["version = 2", f"root = {json.dumps(str(self.containerd / 'root'))}",
                 f"state = {json.dumps(str(self.containerd / 'state'))}", "[grpc]", f"address = {json.dumps(str(self.socket))}"]
        for table, values in (("", runtime), (".cni", network)):
            lines.append(f'[plugins."io.containerd.grpc.v1.cri"{table}]')
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (self.containerd / "config.toml").write_text("\n".join(lines) + "\n")
        # Point to point, as the pods of process nodes: node_network.py says why.
        addresses = {"type": "host-local", "dataDir": str(self.folder / "addresses"), "routes": [{"dst": "0.0.0.0/0"}],
                     "ranges": [[{"subnet": self.facts["address"].rpartition(".")[0] + ".0/24"}]]}
        (self.folder / "cni" / "10-pods.conflist").write_text(json.dumps({
            "cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}))
        self._start("containerd", "containerd", "--config", self.containerd / "config.toml")
        deadline = time.monotonic() + 30
        while subprocess.run(["ctr", "--address", self.socket, "version"], capture_output=True).returncode:
            if time.monotonic() > deadline:
                sys.exit("kubelet_node: containerd does not answer")
            time.sleep(0.1)

    def _import_images(self):
        pause = oci.Image()
        pause.program("/usr/bin/sleep", "/usr/bin/sleep")
        archive = self.folder / "pause.tar"
        pause.write(archive, PAUSE, entrypoint=["/usr/bin/sleep", "infinity"])
        for image in (archive, *self.facts["images"]):
            confinement.run("ctr", "--address", self.socket, "--namespace", "k8s.io", "images", "import", image)

    def _start_kubelet(self):
        keys = pathlib.Path(self.folder.parents[1] / "pki")
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.socket}", "address": self.facts["address"], "port": KUBELET_PORT,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                               "x509": {"clientCAFile": str(keys / "ca.crt")}},
            "authorization": {"mode": "AlwaysAllow"}, "tlsCertFile": str(keys / "machines.crt"),
            "tlsPrivateKeyFile": str(keys / "machines.key"),
            "cgroupDriver": "cgroupfs", "failCgroupV1": False, "cgroupRoot": f"/{self.facts['group']}",
            "enforceNodeAllocatable": ["none"], "failSwapOn": False, "oomScoreAdj": 0, "makeIPTablesUtilChains": False,
            "podLogsDir": str(self.kubelet / "pod-logs"), "volumePluginDir": str(self.kubelet / "volume-plugins"),
            # The disk of the machine below is not this node's to judge.
            "evictionHard": {f"{what}.available": "0%" for what in ("memory", "nodefs", "imagefs")},
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99}
        (self.kubelet / "config.json").write_text(json.dumps(configuration))
        self._start("kubelet", pathlib.Path(self.facts["programs"]) / "kubelet", f"--config={self.kubelet / 'config.json'}",
                    f"--kubeconfig={keys / self.facts['name']}.kubeconfig", f"--root-dir={self.kubelet}",
                    f"--cert-dir={self.kubelet / 'pki'}", f"--hostname-override={self.facts['name']}",
                    f"--node-ip={self.facts['address']}")


def main():
    verb, argument = sys.argv[1:]
    if verb == "sweep":
        return sweep(argument)
    node = Node(json.loads(argument))
    os.set_inheritable(node.facts["alive"], False)  # this process and its copies hold it; the programs cannot outlive these
    return confinement.confined(node.run, network=False)


if __name__ == "__main__":
    sys.exit(main())
