#!/usr/bin/env python3
"""Process nodes: what they promise to the tests that stand on them.

    MUSTER_BIN=build/bin tests/cluster/process_node_test.py
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster, processes  # noqa: E402

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
              "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}


class ProcessNodes(fixture.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = ProcessNode(cls.cluster, "node-a")
        cls.addClassCleanup(cls.node.close)

    def setUp(self):
        self.space = self.new_space()

    def get(self, *arguments):
        return self.kubectl("-n", self.space, "get", *arguments)

    def pod(self, name, script, volumes=(), mounts=(), env=(), grace=2):
        self.kubectl.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": grace, "volumes": list(volumes),
            "containers": [{"name": "c", "image": "none", "command": ["bash", "-c", script], "env": list(env),
                            "volumeMounts": list(mounts), "securityContext": RESTRICTED}]}}, namespace=self.space)

    def phase(self, name):
        return self.get("pods", "-o", f"jsonpath={{.items[?(@.metadata.name=='{name}')].status.phase}}")

    def wait_phase(self, name, phase):
        muster.wait_until(lambda: self.phase(name) == phase, 30, f"pod {name} to be {phase or 'gone'}",
                          lambda: self.get("pods", "-o", "wide") + self.log(name) + self.node.log())

    def log(self, name):
        return self.node.pod_log(self.space, name)

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
        node = ProcessNode(self.cluster, "node-b")
        self.addCleanup(node.close)
        # Its object stays ready until its lease runs out; the pods of other tests must not go there.
        self.addCleanup(self.kubectl, "delete", "node", "node-b")
        self.kubectl("cordon", "node-a")
        self.addCleanup(self.kubectl, "uncordon", "node-a")
        mark = f"mark-of-{self.space}"
        self.pod("p", f"(exec -a {mark} sleep 1000) & exec -a {mark} sleep 1000")
        self.wait_phase("p", "Running")
        marked = lambda: processes.of_home(mark)  # noqa: E731
        muster.wait_until(lambda: len(marked()) == 2, 10, "two processes of the pod")
        node.switch_off()
        muster.wait_until(lambda: not marked(), 10, "the end of the pod's processes")


if __name__ == "__main__":
    unittest.main(verbosity=2)
