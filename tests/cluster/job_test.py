#!/usr/bin/env python3
"""Whole jobs on a real control plane: they grow with the autoscaler, lose machines in every way, and end with the bits of a local run.

    MUSTER_BIN=build/bin tests/cluster/job_test.py
"""

import json
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.autoscaler import Machines  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster  # noqa: E402

STEPS = ("--micro-batches", 16, "--batch-size", 5)


class ClusterJob:
    """One `launcher run --platform kubernetes` of a test, seen from its laptop."""

    def __init__(self, test, space, job_file, steps, pace_ms):
        self.test, self.kubectl, self.space = test, test.kubectl, space
        self.home = muster.Home()
        test.addCleanup(self.home.close, check=False)
        self.home.environment["KUBECONFIG"] = str(test.cluster.kubeconfig)
        self.steps = ("--steps", steps, *STEPS)
        path = self.home.work / "job.yaml"
        path.write_text(json.dumps({
            "name": "demo", "platform": "kubernetes", "environment": {"PACED_MS": str(pace_ms)},
            "program": {"path": str(muster.PACED), "args": [str(word) for word in self.steps]}, **job_file}))
        self.output = open(self.home.root / "run.stdout", "w+")
        self.errors = open(self.home.root / "run.stderr", "w+")
        test.addCleanup(self.output.close)
        test.addCleanup(self.errors.close)
        self.process = subprocess.Popen(
            [muster.LAUNCHER, "run", "-n", space, "-f", path, "-o", "json"], env=self.home.environment, cwd=self.home.work,
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors)
        test.addCleanup(self._end)

    def _end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def data(self):
        items = json.loads(self.kubectl("-n", self.space, "get", "configmaps", "-l", "muster.dev/job=demo", "-o", "json"))["items"]
        return items[0].get("data", {}) if items else {}

    def events(self):
        """What the run has printed so far, without its progress."""
        self.output.seek(0)
        lines = [json.loads(line) for line in self.output.read().splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in lines if event["event"] != "progress"]

    def changes(self):
        return [event for event in self.events() if event["event"] == "membership"]

    def pods(self, component):
        items = json.loads(self.kubectl("-n", self.space, "get", "pods", "-l", f"app.kubernetes.io/component={component}",
                                        "-o", "json"))["items"]
        return [pod for pod in items if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]]

    def explain(self):
        self.errors.seek(0)
        return "\n".join([*map(json.dumps, self.events()[-20:]), self.errors.read()[-3000:],
                          self.kubectl("-n", self.space, "get", "pods,jobs", "-o", "wide"),
                          self.kubectl("get", "nodes"), self.data().get("status", "")])

    def wait(self, condition, seconds, what):
        def still():
            if self.process.poll() not in (None, 0):
                raise muster.Late(f"the job has ended while waiting for {what}\n{self.explain()}")
            return condition()

        return muster.wait_until(still, seconds, what, self.explain)

    def wait_world(self, size, seconds, after=0):
        """Until so many train together, by a change that comes after the first `after` ones; that change."""
        def change():
            return next((event for event in self.changes()[after:] if len(event["members_after"]) == size), None)

        return self.wait(change, seconds, f"{size} workers to train")

    def wait_left(self, pod, seconds):
        """Until the ring goes on without the worker of that pod; that change."""
        worker = pod["metadata"]["name"].removeprefix("demo-").split("-", 1)[1]

        def change():
            return next((event for event in self.changes() if worker in event["members_before"] and
                         worker not in event["members_after"]), None)

        return self.wait(change, seconds, f"the ring without {worker}")

    def incarnations(self):
        """The process of each worker that trains: it changes when one is started again."""
        state = json.loads(self.data()["state"])
        return {member["worker"]: member["incarnation"] for member in state["active"]["members"]}

    def finish(self, seconds):
        """The `finished` object, when nothing of the job is left in the namespace."""
        muster.wait_until(lambda: self.process.poll() is not None, seconds, "the job to end", self.explain)
        self.output.seek(0)
        finished = json.loads(self.output.read().splitlines()[-1])
        self.test.assertEqual(self.process.returncode, 0, self.explain())
        left = self.kubectl("-n", self.space, "get", "configmaps,secrets,services,jobs,pods,serviceaccounts,roles,rolebindings,leases",
                            "-o", "name").split()
        self.test.assertEqual([name for name in left if "demo-" in name], [])
        return finished

    def undisturbed_weights(self):
        alone = self.home.by_hand(muster.PACED, *self.steps)
        return alone["weights"]


class Jobs(fixture.ClusterTest):
    flags = ("--autoscaler",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machines = Machines(cls.cluster)
        cls.addClassCleanup(cls.machines.close)
        # Where coordinators run: no test touches it.
        cls.base = ProcessNode(cls.cluster, "base", cpu=9)
        cls.addClassCleanup(cls.base.close)

    def machine_of(self, pod):
        return self.machines.nodes[pod["spec"]["nodeName"]]

    def bought(self, job):
        """The pods that run on machines of the autoscaler."""
        return [pod for pod in job.pods("worker") if pod["spec"]["nodeName"] in self.machines.nodes]

    def test_a_job_grows_with_the_cluster_and_shrinks_with_it(self):
        job = ClusterJob(self, self.new_space(), {"pools": [
            {"name": "workers", "workers": "2:6", "resources": {"cpu": "3"}}]}, steps=5000, pace_ms=8)
        job.wait_world(2, 60)  # two fit
        job.wait_world(6, 120)
        before = job.incarnations()

        # Drained: notice, a generation without it, no step lost.
        drained = self.bought(job)[0]
        self.kubectl("drain", drained["spec"]["nodeName"], "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        change = job.wait_left(drained, 30)
        self.assertEqual(change["steps_redone"], 0, job.explain())
        job.wait_world(6, 120, after=len(job.changes()))

        # Reclaimed with notice: the same.
        reclaimed = self.bought(job)[0]
        self.machines.reclaim(reclaimed["spec"]["nodeName"], 20)
        self.assertEqual(job.wait_left(reclaimed, 30)["steps_redone"], 0, job.explain())
        job.wait_world(6, 120, after=len(job.changes()))

        # Switched off: nobody is told.
        lost = self.bought(job)[0]
        self.machine_of(lost).switch_off()
        job.wait_left(lost, 30)
        after = job.incarnations()

        finished = job.finish(300)
        self.assertEqual(finished["weights"], job.undisturbed_weights())
        stayed = before.keys() & after.keys()  # no process of them was started again
        self.assertGreaterEqual(len(stayed), 2)
        self.assertEqual({worker: after[worker] for worker in stayed}, {worker: before[worker] for worker in stayed})
        muster.wait_until(lambda: not self.machines.running(), 120, "the idle machines to go",
                          lambda: self.kubectl("get", "nodes,nodeclaims", "-o", "wide"))

    def test_a_coordinator_that_is_killed_twice_comes_back(self):
        job = ClusterJob(self, self.new_space(), {"workers": "2:3"}, steps=1200, pace_ms=5)
        job.wait_world(3, 60)
        before = job.incarnations()
        for _ in range(2):
            epoch = int(job.data()["epoch"])
            [coordinator] = job.pods("coordinator")
            self.kubectl("-n", job.space, "delete", "pod", coordinator["metadata"]["name"], "--force", "--grace-period=0")
            job.wait(lambda: int(job.data().get("epoch", 0)) > epoch, 90, "the next coordinator")
        job.wait(lambda: [event["event"] for event in job.events()].count("coordinator") == 2, 30, "it to take over")
        self.assertEqual(job.incarnations(), before)
        self.assertEqual(job.finish(200)["weights"], job.undisturbed_weights())


if __name__ == "__main__":
    unittest.main(verbosity=2)
