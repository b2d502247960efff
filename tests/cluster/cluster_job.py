"""One job on a test cluster, seen from the laptop that has started it."""

import json

from tests.harness import muster

STEPS = ("--micro-batches", 16, "--batch-size", 5)


class ClusterJob(muster.Job):
    """The paced program with the pools and the like that `job_file` says, followed until the test ends."""

    def __init__(self, test, space, job_file, steps, pace_ms):
        self.test, self.kubectl, self.space = test, test.kubectl, space
        home = muster.Home()
        test.addCleanup(home.close, check=False)
        home.environment["KUBECONFIG"] = str(test.cluster.kubeconfig)
        path = home.work / "job.yaml"
        path.write_text(json.dumps({"environment": {"PACED_MS": str(pace_ms)}, **job_file}))
        super().__init__(home, self.program_in(home), ("--steps", steps, *STEPS), workers=None, name="demo",
                         flags=("--platform", "kubernetes", "-n", space, "-f", path))
        test.addCleanup(self._end)

    def program_in(self, home):
        """What to run. It may put files into home.work, the folder of the job file."""
        return muster.PACED

    def _end(self):
        self.process.kill()
        self.close()

    def data(self):
        """What the coordinator keeps in the run's ConfigMap."""
        items = json.loads(self.kubectl("-n", self.space, "get", "configmaps", "-l", "muster.dev/job=demo", "-o", "json"))["items"]
        return items[0].get("data", {}) if items else {}

    def changes(self):
        return [line for line in self.objects() if line.get("event") == "membership"]

    def pods(self, component):
        items = json.loads(self.kubectl("-n", self.space, "get", "pods", "-l", f"app.kubernetes.io/component={component}",
                                        "-o", "json"))["items"]
        return [pod for pod in items if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]]

    def explain(self):
        return "\n".join([super().explain(), self.kubectl("-n", self.space, "get", "pods,jobs", "-o", "wide"),
                          self.kubectl("get", "nodes"), self.data().get("status", "")])

    def wait(self, condition, seconds, what):
        def still():
            if self.process.poll() not in (None, 0):
                raise muster.Late(f"the job has ended while waiting for {what}\n{self.explain()}")
            return condition()

        return muster.wait_until(still, seconds, what, self.explain)

    def wait_size(self, size, seconds, after=0):
        """Until so many train together, by a change that comes after the first `after` ones; that change."""
        def change():
            return next((event for event in self.changes()[after:] if len(event["members_after"]) == size), None)

        return self.wait(change, seconds, f"{size} workers to train")

    def wait_left(self, pod, seconds):
        """Until the ring goes on without the workers of that pod; that change."""
        name = pod["metadata"]["name"].removeprefix("demo-").split("-", 1)[1]

        def has(members):
            return any(member == name or member.startswith(f"{name}-") for member in members)

        def change():
            return next((event for event in self.changes() if has(event["members_before"]) and not has(event["members_after"])), None)

        return self.wait(change, seconds, f"the ring without {name}")

    def incarnations(self):
        """The process of each worker that trains: it changes when one is started again."""
        state = json.loads(self.data()["state"])
        return {member["worker"]: member["incarnation"] for member in state["active"]["members"]}

    def finish(self, seconds):
        """The `finished` object, when nothing of the job is left in the namespace."""
        finished = self.finished(seconds)
        left = self.kubectl("-n", self.space, "get", "configmaps,secrets,services,jobs,pods,serviceaccounts,roles,rolebindings", "-o",
                            "name").split()
        self.test.assertEqual([name for name in left if "demo-" in name], [])
        return finished

    def stop_and_finish(self, seconds):
        self.stop()
        return self.finish(seconds)

    def undisturbed_weights(self, steps):
        """Those of a local run of so many steps: the paced program learns at a constant rate."""
        return self.home.by_hand(muster.PACED, "--steps", steps, *STEPS)["weights"]
