#!/usr/bin/env python3
"""The program of a job and its files travel from the laptop to the pods, which do not see this machine's /tmp where they lie.

    MUSTER_BIN=build/bin tests/cluster/shipping_test.py
"""

import json
import pathlib
import re
import shutil
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster  # noqa: E402

# The program is a script, the real one is a file that it needs.
SCRIPT = '#!/bin/bash\necho "the answer is $(cat data/answer.txt)"\nexec tools/paced "$@"\n'


class ShippedJob(ClusterJob):
    def program_in(self, home):
        for name in ("tools", "data/deep"):
            (home.work / name).mkdir(parents=True)
        shutil.copy(muster.PACED, home.work / "tools" / "paced")
        (home.work / "data" / "answer.txt").write_text("forty-two")
        # Several chunks that cannot be compressed to nothing.
        (home.work / "data" / "deep" / "noise.bin").write_bytes(b"".join(number.to_bytes(4, "big") for number in range(1 << 20)))
        script = home.work / "train.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        return script


class Shipping(fixture.NodeTest):
    def job(self, workers, steps, pace_ms=4):
        return ShippedJob(self, self.space, {"workers": workers, "files": ["data", "./tools/"]}, steps, pace_ms)

    def log(self, pod):
        return self.node.pod_log(self.space, pod["metadata"]["name"])

    def sources(self, pod):
        """Where a worker's agent has got the chunks from: {"coordinator" or an address: chunks}."""
        return {source: int(chunks) for source, chunks in re.findall(r"bundle=fetched source=(\S+) chunks=(\d+)", self.log(pod))}

    def wait_sources(self, job, pod):
        return job.wait(lambda: self.sources(pod), 30, f"the program of {pod['metadata']['name']}")

    def test_trains_to_the_bits_of_a_local_run_and_agents_pass_it_on(self):
        job = self.job("6", steps=400)
        job.wait_size(6, 120)
        pods = job.pods("worker")
        self.assertEqual(len(pods), 6)
        sources = [self.wait_sources(job, pod) for pod in pods]
        addresses = [f"{pod['status']['podIP']}:" for pod in pods]
        passed_on = [source for each in sources for source in each if any(source.startswith(a) for a in addresses)]
        # The coordinator has four places, and all six ask at once.
        self.assertGreaterEqual(len(passed_on), 2, sources)
        for pod in pods:
            self.assertIn("the answer is forty-two", self.log(pod))
        self.assertEqual(job.finish(120)["weights"], job.undisturbed_weights(400))
        arrived = [event["message"] for event in job.events() if event["kind"] == "program"]
        self.assertEqual(len(arrived), 1, arrived)
        self.assertIn("the program has arrived: 4 files, ", arrived[0])
        self.assertRegex(job.stderr(), r"sends train\.sh and 3 files, [\d.]+ MiB \([\d.]+ MiB to send\)")

    def test_a_new_worker_gets_it_from_an_agent_when_the_coordinator_has_lost_it(self):
        job = self.job("1:2", steps=100_000, pace_ms=10)
        job.wait_size(2, 120)
        before = {pod["metadata"]["name"] for pod in job.pods("worker")}
        job.process.kill()  # so that nobody can send it again
        job.process.wait()
        epoch = int(job.data()["epoch"])
        [coordinator] = job.pods("coordinator")
        self.kubectl("-n", self.space, "delete", "pod", coordinator["metadata"]["name"], "--force", "--grace-period=0")
        muster.wait_until(lambda: int(job.data().get("epoch", 0)) > epoch, 90, "the next coordinator", job.explain)

        def resized():
            return job.home.launcher("resize", "demo", "3").returncode == 0

        def added():
            return [pod for pod in job.pods("worker") if pod["metadata"]["name"] not in before and self.sources(pod)]

        muster.wait_until(resized, 60, "the coordinator to take on a resize", job.explain)
        [pod] = muster.wait_until(added, 60, "the program of a third worker", job.explain)
        self.assertNotIn("coordinator", self.sources(pod))
        muster.wait_until(lambda: job.status()["world_size"] == 3, 60, "three workers", job.explain)
        job.stop()
        self.assertEqual(job.status()["phase"], "stopped")

    def test_is_sent_again_when_nobody_has_it_any_more(self):
        self.kubectl("cordon", "node-a")
        self.addCleanup(self.kubectl, "uncordon", "node-a")
        coordinators = ProcessNode(self.cluster, "node-b", cpu=1)  # too small for workers
        self.addCleanup(coordinators.close)
        self.addCleanup(self.kubectl, "delete", "node", "node-b")
        job = ShippedJob(self, self.space, {"files": ["data", "tools"], "pools": [
            {"name": "workers", "workers": 2, "resources": {"cpu": "2"}}]}, 200, 2)
        job.wait(lambda: "compressed" in job.stderr(), 60, "it to be sent")
        [coordinator] = job.pods("coordinator")
        self.kubectl("-n", self.space, "delete", "pod", coordinator["metadata"]["name"], "--force", "--grace-period=0")
        job.wait(lambda: job.stderr().count("compressed") == 2, 90, "it to be sent again")
        self.kubectl("uncordon", "node-a")
        self.assertEqual(job.finish(120)["weights"], job.undisturbed_weights(200))

    def test_a_signal_while_it_is_sent_takes_the_run_back(self):
        self.kubectl("-n", self.space, "create", "quota", "none", "--hard=pods=0")  # so that nobody takes it
        job = self.job("2", steps=200)
        job.wait(lambda: "exceeded quota" in job.stderr(), 60, "the launcher to wait")
        job.process.send_signal(signal.SIGINT)
        self.assertEqual(job.finished(60, code=130)["phase"], "stopped")
        self.assertIn("has not been sent", job.stderr())
        self.assertEqual(job.data(), {})

    def test_what_would_be_sent_is_told_and_what_cannot_be_is_refused(self):
        home = muster.Home()
        self.addCleanup(home.close)
        home.environment["KUBECONFIG"] = str(self.cluster.kubeconfig)
        (home.work / "data").mkdir()
        (home.work / "data" / "a").write_text("1")
        run = ("run", "--platform", "kubernetes", "-n", self.space, "--dry-run")
        answer = home.json(*run, "-o", "json", "--send", "data/", "--", muster.BIN / "digits")
        self.assertRegex(answer["sends"], r"^digits and 1 file, [\d.]+ MiB$")
        (home.work / "job.yaml").write_text(json.dumps({"files": ["data", "../work", "/etc/hosts", "gone"]}))
        refused = home.launcher(*run, "-f", "job.yaml", "--", muster.BIN / "digits")
        self.assertEqual(refused.returncode, 2, refused.stderr)
        for text in ("has 3 errors", "job.yaml:1:20: files[1] is ../work", "leads out of its folder", "files[2] is /etc/hosts",
                     "must be relative", "files[3] is ", "which is not there"):
            self.assertIn(text, refused.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
