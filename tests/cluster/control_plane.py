"""A real control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, with TLS, RBAC and Node authorisation.

To be used inside confinement.confined(): it takes fixed ports and addresses.
"""

import http.client
import json
import pathlib
import ssl
import subprocess
import sys
import time

from tests.cluster.certificates import API_SERVER_NAMES, MACHINE_NAMES, NODE_ADDRESS, Authority
from tests.cluster.confinement import run
from tests.cluster.kubectl import Kubectl

API_PORT = 6443
SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.200.0.0/16"
ADMIN = "admin"
CONTROL_PLANE_NODE = "control-plane"
SERVER_FOR_MACHINES = f"https://{NODE_ADDRESS}:{API_PORT}"
MACHINES_KUBECONFIG = "machines.kubeconfig"  # an administrator's, in the network of a machine


class ControlPlane:
    """Starts on construction, in `folder`; ready after wait_ready()."""

    def __init__(self, programs, folder):
        self.programs, self.folder = pathlib.Path(programs), pathlib.Path(folder)
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.commands, self.processes = {}, {}
        self.kubectl = Kubectl(self.programs / "kubectl", self.folder / "pki" / f"{ADMIN}.kubeconfig")
        self.authority = Authority(self.folder / "pki")
        self.server = f"https://127.0.0.1:{API_PORT}"
        self._make_network()
        self._make_certificates()
        self._start_etcd()
        self._start_api_server()
        self._start_controllers()
        self._start_scheduler()
        self._start_proxy()

    def start(self, name, *arguments, program=None, environment=None):
        """A program of the cluster, with its output in logs/NAME.log."""
        self.commands[name] = ([str(self.programs / (program or name)), *map(str, arguments)], environment)
        self._run(name)

    @staticmethod
    def inside(*command):
        """`command` as it is to be written to run in the cluster: whoever has a ControlPlane is there already."""
        return [str(word) for word in command]

    def _run(self, name):
        command, environment = self.commands[name]
        with open(self.logs / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                                    stderr=subprocess.STDOUT, env=environment)

    def tend(self):
        """Starts again what has ended, as the kubelet of a control plane node does."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                print(f"cluster: {name} ended with {process.returncode} and is started again", file=sys.stderr)
                self._run(name)

    def wait_ready(self, seconds=120):
        """Until pods could be made: the last thing to appear is the default service account."""
        deadline = time.monotonic() + seconds
        context = ssl.create_default_context(cafile=self.authority.ca)
        context.load_cert_chain(self.authority.certificate(ADMIN), self.authority.key(ADMIN))
        unchecked = ssl._create_unverified_context()  # theirs are made by themselves
        for what, port, path, tls in (("kube-apiserver", API_PORT, "/readyz", context),
                                      ("kube-scheduler", 10259, "/readyz", unchecked),
                                      ("kube-controller-manager", 10257, "/healthz", unchecked),
                                      ("default service account", API_PORT,
                                       "/api/v1/namespaces/default/serviceaccounts/default", context)):
            while not self._answers(port, path, tls):
                self._check()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{what} was not ready after {seconds} s; see {self.logs}")
                time.sleep(0.1)
        self._make_node()

    def _check(self):
        """Raises if a program has ended: at the start this is a mistake of ours, not a fault to live through."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                last = (self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-5:]
                raise RuntimeError(f"{name} ended with {process.returncode}:\n" + "\n".join(last))

    @staticmethod
    def _answers(port, path, tls):
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @staticmethod
    def _make_network():
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "node0", "type", "bridge")
        run("ip", "addr", "add", f"{NODE_ADDRESS}/16", "dev", "node0")
        run("ip", "link", "set", "node0", "up")
        settings = pathlib.Path("/proc/sys/net/ipv4")
        (settings / "ip_forward").write_text("1")
        for name in ("all", "default"):
            # What pods of one machine send to each other passes here (node_network.py); nobody is to be told of a shorter way.
            (settings / "conf" / name / "send_redirects").write_text("0")

    def _make_node(self):
        """This machine as a node that takes no pods: kube-proxy asks for it, and with no node at all schedulers wait longer."""
        self.kubectl.create(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": CONTROL_PLANE_NODE}, "spec": {"unschedulable": True},
             "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]}})

    def _make_certificates(self):
        sign = self.authority.sign
        sign("apiserver", "/CN=kube-apiserver", API_SERVER_NAMES)
        sign("machines", "/CN=machine", MACHINE_NAMES)
        for name, subject in ((ADMIN, "/O=system:masters/CN=admin"),
                              ("scheduler", "/CN=system:kube-scheduler"),
                              ("controllers", "/CN=system:kube-controller-manager"),
                              ("proxy", "/CN=system:kube-proxy"),
                              ("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")):
            sign(name, subject)
            self.authority.kubeconfig(name, self.server)
        self.authority.kubeconfig(ADMIN, SERVER_FOR_MACHINES, self.authority.folder / MACHINES_KUBECONFIG)

    def _start_etcd(self):
        client = "http://127.0.0.1:2379"
        peer = "http://127.0.0.1:2380"
        self.start("etcd", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={client}",
                   f"--advertise-client-urls={client}", "--listen-peer-urls=http://127.0.0.1:0",
                   f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
                   "--unsafe-no-fsync", "--log-level=warn")

    def _start_api_server(self):
        keys = self.authority
        self.start(
            "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--secure-port={API_PORT}",
            "--bind-address=0.0.0.0", f"--advertise-address={NODE_ADDRESS}",
            f"--tls-cert-file={keys.certificate('apiserver')}", f"--tls-private-key-file={keys.key('apiserver')}",
            f"--client-ca-file={keys.ca}", f"--kubelet-certificate-authority={keys.ca}",
            f"--kubelet-client-certificate={keys.certificate('kubelet-client')}",
            f"--kubelet-client-key={keys.key('kubelet-client')}", "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={keys.service_account_public}",
            f"--service-account-signing-key-file={keys.service_account_key}", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true")

    def _start_controllers(self):
        keys = self.authority
        self.start(
            "kube-controller-manager", f"--kubeconfig={keys.folder}/controllers.kubeconfig",
            f"--service-account-private-key-file={keys.service_account_key}", f"--root-ca-file={keys.ca}",
            "--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1",
            f"--cluster-signing-cert-file={keys.ca}", f"--cluster-signing-key-file={keys.key('ca')}")

    def _start_scheduler(self):
        """With a client limit that does not hide how fast pods are asked for (its default is 50 a second)."""
        configuration = self.folder / "scheduler.json"
        configuration.write_text(json.dumps({
            "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": f"{self.authority.folder}/scheduler.kubeconfig",
                                 "qps": 1000, "burst": 2000},
            "leaderElection": {"leaderElect": False}}))
        self.start("kube-scheduler", f"--config={configuration}", "--bind-address=127.0.0.1")

    def _start_proxy(self):
        """Addresses of services, for pods. It leaves the limits of connection tracking, which are the machine's, alone."""
        run("ip", "route", "add", SERVICE_RANGE, "dev", "node0")
        configuration = self.folder / "proxy.json"
        configuration.write_text(json.dumps({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "iptables",
            "clientConnection": {"kubeconfig": f"{self.authority.folder}/proxy.kubeconfig"},
            "clusterCIDR": POD_RANGE, "hostnameOverride": CONTROL_PLANE_NODE, "bindAddress": NODE_ADDRESS,
            "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
            "iptables": {"minSyncPeriod": "100ms"},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
                          "udpTimeout": "0s", "udpStreamTimeout": "0s"}}))
        self.start("kube-proxy", f"--config={configuration}")
