#!/usr/bin/env python3
"""Process nodes: what they promise to the tests that stand on them.

    MUSTER_BIN=build/bin tests/cluster/process_node_test.py
"""

import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster, processes  # noqa: E402

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
              "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}


class ProcessNodes(fixture.NodeTest):
    def get(self, *arguments):
        return self.kubectl("-n", self.space, "get", *arguments)

    def pod(self, name, script, volumes=(), mounts=(), env=(), grace=2, node="node-a", command=None):
        self.kubectl.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node}, "restartPolicy": "Never", "terminationGracePeriodSeconds": grace, "volumes": list(volumes),
            "containers": [{"name": "c", "image": "none", "command": command or ["bash", "-c", script], "env": list(env),
                            "volumeMounts": list(mounts), "securityContext": RESTRICTED}]}}, namespace=self.space)

    def phase(self, name):
        return self.get("pods", "-o", f"jsonpath={{.items[?(@.metadata.name=='{name}')].status.phase}}")

    def wait_phase(self, name, phase):
        muster.wait_until(lambda: self.phase(name) == phase, 30, f"pod {name} to be {phase or 'gone'}",
                          lambda: self.get("pods", "-o", "wide") + self.log(name) + self.node.log())

    def start_node(self, name):
        node = ProcessNode(self.cluster, name)
        self.addCleanup(node.close)
        # Its object stays ready until its lease runs out; the scheduler is not to know it any more.
        self.addCleanup(self.kubectl, "delete", "node", name)
        return node

    def log(self, name):
        return self.log_of(self.node, name)

    def log_of(self, node, name):
        return node.pod_log(self.space, name)

    def test_a_pod_sees_what_its_spec_says(self):
        self.kubectl.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"key": "of the map"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "of the secret"}},
            namespace=self.space)
        field = lambda name, path: {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}  # noqa: E731
        self.pod("p", "cat /map/key; echo; cat /secret/key; echo; id -u; echo $NAME $ADDRESS $PLAIN;"
                      "touch /work-of-mine 2>&1 | tail -c 20; touch /empty/f && echo written; echo x > /map/key;"
                      "ps ax | wc -l; exit 3",
                 volumes=[{"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}},
                          {"name": "e", "emptyDir": {"medium": "Memory"}}],
                 mounts=[{"name": "m", "mountPath": "/map"}, {"name": "s", "mountPath": "/secret"},
                         {"name": "e", "mountPath": "/empty"}],
                 env=[field("NAME", "metadata.name"), field("ADDRESS", "status.podIP"), {"name": "PLAIN", "value": "x"}])
        self.wait_phase("p", "Failed")
        lines = self.log("p").splitlines()
        address = self.get("pod", "p", "-o", "jsonpath={.status.podIP}")
        self.assertEqual(lines[:4], ["of the map", "of the secret", "65532", f"p {address} x"])
        self.assertIn("written", lines)
        self.assertIn("Read-only file system", self.log("p"))
        self.assertLess(int(lines[-1]), 8, "it sees its own processes only")
        self.assertEqual(self.get("pod", "p", "-o", "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"), "3")

    def test_pods_reach_each_other_and_the_api_server(self):
        self.pod("server", "python3 -m http.server 8000 --directory /empty",
                 volumes=[{"name": "e", "emptyDir": {}}], mounts=[{"name": "e", "mountPath": "/empty"}])
        self.wait_phase("server", "Running")
        address = self.get("pod", "server", "-o", "jsonpath={.status.podIP}")
        account = "/var/run/secrets/kubernetes.io/serviceaccount"
        self.pod("client", f"curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://{address}:8000/ | head -1;"
                           f"curl -s --retry 20 --cacert {account}/ca.crt -H \"Authorization: Bearer $(cat {account}/token)\""
                           " https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat "
                           f"{account}/namespace)/pods")
        self.wait_phase("client", "Succeeded")
        self.assertIn("<!DOCTYPE", self.log("client"))
        self.assertIn(f"system:serviceaccount:{self.space}:default", self.log("client"), "it is known and has no rights")

    def test_a_pod_reaches_one_of_its_own_node_by_a_service(self):
        """Their addresses are rewritten in the cluster's network, where answers have to pass too."""
        self.pod("server", "echo here > /empty/index; cd /empty; exec python3 -m http.server 8000",
                 volumes=[{"name": "e", "emptyDir": {}}], mounts=[{"name": "e", "mountPath": "/empty"}])
        self.kubectl("-n", self.space, "label", "pod", "server", "app=server")
        self.kubectl("-n", self.space, "expose", "pod", "server", "--port=80", "--target-port=8000")
        address = self.get("service", "server", "-o", "jsonpath={.spec.clusterIP}")
        self.pod("client", f"curl -sf -m 2 --retry 20 --retry-all-errors --retry-delay 1 http://{address}/index")
        self.wait_phase("client", "Succeeded")
        self.assertEqual(self.log("client"), "here\n")

    def test_deletion_gives_a_pod_its_grace(self):
        self.pod("polite", "trap 'echo asked; exit 0' TERM; while :; do read -t 1 <> <(:); done", grace=30)
        self.pod("deaf", "trap '' TERM; while :; do read -t 1 <> <(:); done", grace=1)
        self.wait_phase("polite", "Running")
        self.wait_phase("deaf", "Running")
        self.kubectl("-n", self.space, "delete", "pod", "polite", "deaf", "--wait=false")
        self.wait_phase("polite", "")
        self.wait_phase("deaf", "")
        self.assertIn("asked", self.log("polite"))

    def test_nothing_of_a_pod_runs_on_when_its_node_is_switched_off(self):
        node = self.start_node("node-b")
        mark = f"mark-of-{self.space}"
        self.pod("p", f"(exec -a {mark} sleep 1000) & exec -a {mark} sleep 1000", node="node-b")
        self.wait_phase("p", "Running")
        marked = lambda: processes.of_home(mark)  # noqa: E731
        muster.wait_until(lambda: len(marked()) == 2, 10, "two processes of the pod")
        node.switch_off()
        muster.wait_until(lambda: not marked(), 10, "the end of the pod's processes")

    def test_variables_and_words_are_expanded_as_by_a_kubelet(self):
        env = [{"name": name, "value": value} for name, value in
               (("FIRST", "1"), ("SECOND", "$(FIRST)2 $(THIRD)"), ("THIRD", "3"), ("LITERAL", "$$(FIRST) $$$$ $5 $"))]
        self.pod("p", 'echo "$SECOND|$LITERAL|$(FIRST)|$$(printf %s ok)"', env=env)
        self.wait_phase("p", "Succeeded")
        self.assertEqual(self.log("p"), "12 $(THIRD)|$(FIRST) $$ $5 $|1|ok\n")

    def test_the_launcher_of_the_build_is_where_the_stock_image_has_it(self):
        self.pod("p", "", command=["launcher", "version"])
        self.wait_phase("p", "Succeeded")
        self.assertRegex(self.log("p"), r"^launcher \d")

    def test_logs_are_served_to_kubectl(self):
        logs = lambda *flags: self.kubectl("-n", self.space, "logs", "p", *flags)  # noqa: E731
        self.pod("p", "trap 'printf last; exit 0' TERM; seq 100; while :; do read -t 1 <> <(:); done")
        self.wait_phase("p", "Running")
        numbers = "".join(f"{number}\n" for number in range(1, 101))
        muster.wait_until(lambda: logs() == numbers, 10, "the pod to print", logs)
        self.assertEqual(logs("--tail=2"), "99\n100\n")
        self.assertEqual(logs("--limit-bytes=5"), "1\n2\n3")
        for line, number in zip(logs("--timestamps").splitlines(), range(1, 101), strict=True):
            self.assertRegex(line, rf"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{9}}Z {number}$")
        self.assertEqual(logs("--since=1h"), numbers)
        follow = subprocess.Popen(self.kubectl.command("-n", self.space, "logs", "-f", "--tail=1", "p"), stdout=subprocess.PIPE,
                                  text=True)
        self.addCleanup(follow.stdout.close)
        self.assertEqual(follow.stdout.readline(), "100\n")
        self.kubectl("-n", self.space, "delete", "pod", "p", "--wait=false")
        self.assertEqual(follow.stdout.read(), "last", "what it says at its end, and then the end")
        self.assertEqual(follow.wait(timeout=10), 0)

    def test_only_the_api_server_gets_logs(self):
        self.pod("p", "echo secret; sleep 1000")
        self.wait_phase("p", "Running")
        url = f"https://{self.node.address}:10250/containerLogs/{self.space}/p/c"
        keys = self.cluster.folder / "pki"
        known = ["--cert", keys / "kubelet-client.crt", "--key", keys / "kubelet-client.key"]
        ask = lambda *flags: subprocess.run(self.cluster.inside("curl", "-s", "--cacert", keys / "ca.crt", *flags),  # noqa: E731
                                            capture_output=True, text=True)
        self.assertEqual(ask(*known, url).stdout, "secret\n")
        self.assertEqual(ask(url).stdout, "")
        self.assertEqual(ask(*known, "-w", "%{http_code}", f"{url}x").stdout, f"container cx of pod {self.space}/p is not here\n404")
        self.assertIn("400", ask(*known, "-w", "%{http_code}", f"{url}?tailLines=x").stdout)

    def test_machines_hang_and_lose_their_network_and_come_back(self):
        """In one test, because the control plane takes most of a minute to give a node up."""
        frozen, cut = self.start_node("frozen"), self.start_node("cut")
        serve = "cd /empty; echo here > index; exec python3 -m http.server 8000"
        empty = {"volumes": [{"name": "e", "emptyDir": {}}], "mounts": [{"name": "e", "mountPath": "/empty"}]}
        for node in (frozen, cut, self.node):
            self.pod(f"on-{node.name}", serve, node=node.name, **empty)
        for node in (frozen, cut, self.node):
            self.wait_phase(f"on-{node.name}", "Running")

        def reaches(source, target):
            address = self.get("pod", f"on-{target.name}", "-o", "jsonpath={.status.podIP}")
            return subprocess.run(source.inside("curl", "-s", "-m", 1, f"http://{address}:8000/index"),
                                  capture_output=True, text=True).stdout == "here\n"

        pairs = [(self.node, frozen), (self.node, cut), (cut, self.node), (cut, frozen)]
        for pair in pairs:
            muster.wait_until(lambda: reaches(*pair), 10, f"{pair[0].name} to reach {pair[1].name}")
        frozen.freeze()
        cut.cut_off()
        self.assertEqual([reaches(*pair) for pair in pairs], [False] * 4)
        self.assertTrue(reaches(cut, cut), "it can still talk to itself")
        states = {processes.read(pid).state for pid in processes.descendants(frozen.pid())}
        self.assertEqual(states, {"T"})
        for node in (frozen, cut):
            muster.wait_until(lambda: node.condition() == "Unknown", 120, f"node {node.name} to be given up",
                              lambda: self.kubectl("get", "nodes"))
        frozen.thaw()
        cut.join_up()
        for node in (frozen, cut):
            node.wait_ready()
        for pair in pairs:
            muster.wait_until(lambda: reaches(*pair), 30, f"{pair[0].name} to reach {pair[1].name} again")
        self.pod("new", "exit 0", node="cut")
        self.wait_phase("new", "Succeeded")
        self.assertEqual(self.phase("on-cut"), "Running")

    def test_a_reclaimed_machine_asks_its_pods_to_go_and_loses_power_when_the_notice_is_over(self):
        node = self.start_node("spot")
        loop = "while :; do read -t 1 <> <(:); done"
        self.pod("polite", f"trap 'echo asked; exit 0' TERM; {loop}", grace=60, node="spot")
        self.pod("deaf", f"trap '' TERM; {loop}", grace=60, node="spot")
        self.wait_phase("polite", "Running")
        self.wait_phase("deaf", "Running")
        node.reclaim(notice_seconds=6)
        self.wait_phase("polite", "")
        self.assertEqual(self.log_of(node, "polite"), "asked\n")
        condition = "jsonpath={.status.conditions[?(@.type=='DisruptionTarget')]['status','reason']}"
        self.assertEqual(self.get("pod", "deaf", "-o", condition), "True EvictionByEvictionAPI")
        self.assertIn("reclaimed", self.kubectl("get", "node", "spot", "-o", "jsonpath={.spec.taints[*].key}"))
        self.assertTrue(node.is_on(), "the notice is not over")
        muster.wait_until(lambda: not node.is_on(), 20, "the power to go")
        self.assertEqual(self.phase("deaf"), "Running", "nobody was left to say how it ended")


if __name__ == "__main__":
    unittest.main(verbosity=2)
