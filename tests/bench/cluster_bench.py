#!/usr/bin/env python3
"""Measures what a job on Kubernetes costs where membership changes, on the test cluster of this machine; prints Markdown.

    tests/bench/cluster_bench.py [--rounds 10]

A round takes a worker away with notice (its pod is deleted), waits until its successor trains, and then takes a machine away without
notice (it is switched off) and puts another one in its place. Then 1,000 pods are made on nodes that exist on paper, by the fleet of a
job and by a Kubernetes Job. docs/benchmarks.md says what each number includes.
"""

import argparse
import datetime
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.bench.bench import HEAD, row  # noqa: E402
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster, processes  # noqa: E402

ROUNDS = 10
PODS = 1000
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 65532,
              "seccompProfile": {"type": "RuntimeDefault"}}


def seconds(stamp):
    """Of "2026-11-24T20:15:43.192Z" or "[2026-11-24 20:15:43.192]"."""
    day, clock = re.search(r"(\d+-\d+-\d+)[T ](\d+:\d+:\d+\.\d+)", stamp).groups()
    return datetime.datetime.fromisoformat(f"{day} {clock}+00:00").timestamp()


class ClusterBench(fixture.ClusterTest):
    def setUp(self):
        self.nodes = {}
        for name in ("base", "a", "b", "c"):
            self.add_node(name)

    def add_node(self, name):
        self.nodes[name] = ProcessNode(self.cluster, name, cpu=4)
        self.addCleanup(self.nodes[name].close)

    def line(self, node, pattern):
        return seconds(next(line for line in node.log().splitlines() if re.search(pattern, line)))

    def first_in_ring(self, pod):
        log = self.nodes[pod["spec"]["nodeName"]].pod_log(self.space, pod["metadata"]["name"])
        return seconds(next(line for line in log.splitlines() if " generation=" in line and " rank=" in line))

    def worker_pods(self):
        return {pod["metadata"]["name"]: pod for pod in self.job.pods("worker")}

    def join(self, known):
        """Seconds from the start of the new pod's process to its place in the ring."""
        self.job.wait_size(3, 300, after=len(self.job.changes()) - 1)
        self.job.wait(lambda: self.worker_pods().keys() - known, 60, "the new pod")
        [name] = self.worker_pods().keys() - known
        pod = self.worker_pods()[name]
        return self.first_in_ring(pod) - self.line(self.nodes[pod["spec"]["nodeName"]], f"pod {name} runs as process")

    def test_measure(self):
        self.space = self.new_space()
        self.job = ClusterJob(self, self.space, {"pools": [
            {"name": "workers", "workers": "2:3", "resources": {"cpu": "3"}}]}, steps=1_000_000, pace_ms=2)
        self.job.wait_size(3, 60)
        joins, notices, redone, losses = [], [], [], []
        for number in range(ROUNDS):
            known = self.worker_pods()
            name, pod = next(iter(known.items()))
            before = len(self.job.changes())
            asked = time.time()
            self.kubectl("-n", self.space, "delete", "pod", name, "--wait=false")
            change = self.job.wait_left(pod, 60)
            notices.append((seconds(change["time"]) - asked) * 1e3)
            redone.append(change["steps_redone"])
            if change["steps_redone"]:
                print(f"{change['steps_redone']} step redone: {change['cause']}")
            self.job.wait_size(3, 120, after=before + 1)
            joins.append(self.join(known.keys()) * 1e3)

            known = self.worker_pods()
            [coordinator] = self.job.pods("coordinator")
            victim = next(pod for pod in known.values() if pod["spec"]["nodeName"] != coordinator["spec"]["nodeName"])
            lost = victim["spec"]["nodeName"]
            before = len(self.job.changes())
            gone = time.time()
            self.nodes[lost].switch_off()
            losses.append((seconds(self.job.wait_left(victim, 60)["time"]) - gone) * 1e3)
            self.kubectl("delete", "node", lost)  # as the cloud does
            self.kubectl("-n", self.space, "delete", "pod", victim["metadata"]["name"], "--force", "--grace-period=0")
            self.add_node(f"n{number}")
            self.job.wait_size(3, 120, after=before + 1)
        print("\n" + HEAD)
        print(row("start of a pod's process to its place in the ring", joins))
        print(row("`kubectl delete pod` to the first step of the ring without it", notices))
        print(row("a machine is switched off to the next step of the others", losses))
        print(f"\nsteps redone after a notice: {sum(redone)} in {len(redone)}")


class ThousandPods(fixture.ClusterTest):
    """On nodes that exist on paper; the scheduler may make 1,000 requests a second."""

    flags = ("--kwok", str(-(-PODS // 100)))

    def test_measure(self):
        self.kubectl("taint", "nodes", "-l", "type=kwok", "kwok.x-k8s.io/node-")
        subprocess.run([muster.BIN.parent / "tests" / "fleet_cluster_test", "--gtest_filter=RealFleet.ManyPods", "--gtest_brief=1"],
                       timeout=300, check=True, env={**os.environ, "KUBECONFIG": self.cluster.kubeconfig, "MUSTER_FLEET_PODS": str(PODS)})
        space = self.new_space()
        container = {"name": "c", "image": "none", "securityContext": RESTRICTED}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {
            "parallelism": PODS, "completions": PODS, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}}
        begin = time.monotonic()
        self.kubectl.create(job, namespace=space)
        running = lambda: self.kubectl("-n", space, "get", "pods", "--field-selector=status.phase=Running", "-o", "name")  # noqa: E731
        muster.wait_until(lambda: len(running().split()) == PODS, 300, "the pods of the Job")
        print(f"a Job of {PODS}: all run after {time.monotonic() - begin:.1f} s")
        self.kubectl("-n", space, "delete", "job", "j", "--cascade=foreground", "--timeout=120s")  # the other test needs the room

    def test_memory_of_a_coordinator(self):
        """Its workers never come, since nothing runs on paper; it watches their pods."""
        kwok = ("nodes", "-l", "type=kwok")
        self.kubectl("taint", *kwok, "--overwrite", "kwok.x-k8s.io/node=fake:NoSchedule")  # or the coordinator would be there
        node = ProcessNode(self.cluster, "base", cpu=4)
        self.addCleanup(node.close)
        job = ClusterJob(self, self.new_space(), {"pools": [
            {"name": "workers", "workers": f"1:{PODS}", "node_selector": {"type": "kwok"}}]}, steps=1000, pace_ms=2)
        job.wait(lambda: job.pods("coordinator"), 60, "the coordinator")
        self.kubectl("taint", *kwok, "kwok.x-k8s.io/node-")
        job.wait(lambda: job.status().get("platform_status", {}).get("pools", [{}])[0].get("running") == PODS, 300, "the pods to run")
        [coordinator] = [p for p in map(processes.read, processes.descendants(node.process.pid)) if p and p.role == "coordinator"]
        status = pathlib.Path(f"/proc/{coordinator.pid}/status").read_text()
        memory = {key: int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024 for key in ("VmRSS", "VmHWM")}
        print(f"a coordinator with {PODS} pods: {memory['VmRSS']:.0f} MiB, at most {memory['VmHWM']:.0f} MiB")
        begin = time.monotonic()
        job.home.launcher("stop", "demo", "--now", "-y", seconds=120)
        print(f"it is gone {time.monotonic() - begin:.1f} s after `launcher stop --now`")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    ROUNDS = parser.parse_args().rounds
    unittest.main(argv=sys.argv[:1])
