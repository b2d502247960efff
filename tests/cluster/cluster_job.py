"""One job on a test cluster, seen from the laptop that has started it."""

import json
import subprocess

from tests.harness import muster

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
        left = self.kubectl("-n", self.space, "get", "configmaps,secrets,services,jobs,pods,serviceaccounts,roles,rolebindings", "-o",
                            "name").split()
        self.test.assertEqual([name for name in left if "demo-" in name], [])
        return finished

    def undisturbed_weights(self):
        alone = self.home.by_hand(muster.PACED, *self.steps)
        return alone["weights"]
