#!/usr/bin/env python3
"""The laptop's side of runs on Kubernetes: a user who has only the rights of `launcher render --rbac`, in a namespace that takes only
pods of the restricted Pod Security Standard.

    MUSTER_BIN=build/bin tests/cluster/laptop_test.py
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.harness import muster  # noqa: E402

LONG = ("--steps", 10_000_000)
KUBERNETES = ("--platform", "kubernetes")
# What every namespace has, and what the tests put there.
NOT_OURS = ("kube-root-ca.crt", "serviceaccount/default", "serviceaccount/ada", "muster-user", "resourcequota/")


class LaptopTest(fixture.NodeTest):
    def setUp(self):
        super().setUp()
        self.homes, self.jobs = [], []
        self.addCleanup(self._close)
        self.user = f"system:serviceaccount:{self.space}:ada"
        self.kubectl("-n", self.space, "create", "serviceaccount", "ada")
        self.token = self.kubectl("-n", self.space, "create", "token", "ada").strip()
        self.home = self.new_home()
        self.kubectl("apply", "-f", "-", text=self.home.launcher(
            "render", "--rbac", "-n", self.space, "--user", self.user).stdout)

    def _close(self):
        for job in self.jobs:
            job.process.kill()
            job.close()
        for home in self.homes:
            home.close()
        self.kubectl("delete", "namespace", self.space, "--wait=false")

    def new_home(self):
        """A machine of the user's: a home of its own and a kubeconfig."""
        home = muster.Home()
        self.homes.append(home)
        config = json.loads(self.kubectl("config", "view", "--raw", "-o", "json"))
        context = {"cluster": config["clusters"][0]["name"], "user": "ada", "namespace": self.space}
        config.update({"users": [{"name": "ada", "user": {"token": self.token}}], "current-context": "lab",
                       "contexts": [{"name": "lab", "context": context}]})
        path = home.root / "kubeconfig"
        path.write_text(json.dumps(config))
        home.environment["KUBECONFIG"] = str(path)
        return home

    def job(self, *arguments, workers=2, flags=(), **options):
        job = muster.Job(self.home, "digits", arguments, workers=workers, flags=(*KUBERNETES, *flags), **options)
        self.jobs.append(job)
        return job

    def left(self):
        """What there is in the namespace that a run may have made."""
        kinds = "configmaps,secrets,serviceaccounts,roles,rolebindings,services,jobs,pods"
        names = self.kubectl("-n", self.space, "get", kinds, "-o", "name").split()
        return [name for name in names if not any(part in name for part in NOT_OURS)]

    def assert_nothing_left(self, seconds=10):
        muster.wait_until(lambda: not self.left(), seconds, "everything of the run to be gone", lambda: str(self.left()))

    def wait_left(self, *kinds, seconds=60):
        """Until the namespace has something of each kind."""
        muster.wait_until(lambda: all(any(kind in name for name in self.left()) for kind in kinds), seconds,
                          f"{kinds} in the namespace", lambda: str(self.left()))

    def wait_told(self, job, text, seconds=60):
        muster.wait_until(lambda: text in job.stderr(), seconds, f"the launcher to say {text!r}", job.explain)

    def refused(self, *arguments, code, home=None):
        """What a launcher says that must end with `code`."""
        done = (home or self.home).launcher(*arguments, seconds=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr

    def coordinator(self):
        return next((name for name in self.left() if name.startswith("pod/") and "-coordinator-" in name), None)


class Runs(LaptopTest):
    def test_trains_the_same_bits_and_leaves_nothing_behind(self):
        job = self.job("--steps", 500)
        finished = job.finished()
        self.assertEqual(self.left(), [], "the launcher waits for it")
        alone = self.home.by_hand("digits", "--steps", 500)
        for key in ("weights", "step", "samples_consumed"):
            self.assertEqual(finished[key], alone[key])
        status = job.status()
        self.assertEqual([status[key] for key in ("phase", "platform", "step", "world_size")],
                         ["succeeded", "kubernetes", 500, 0])
        kinds = [event["kind"] for event in job.events()]
        self.assertIn("membership", kinds)
        self.assertEqual(kinds[-1], "succeeded")
        self.assertEqual([row["platform"] for row in self.home.json("ps")], ["kubernetes"])
        self.assertIn("went with their pods", self.refused("logs", "job", code=2))

    def test_tells_the_failure_of_a_program(self):
        job = self.job("--steps", 0)
        self.assertEqual(job.wait_exit(), 2, job.explain())
        last = job.objects()[-1]
        self.assertEqual((last["event"], last["phase"]), ("finished", "failed"))
        self.assertIn("--steps", job.stderr())
        self.assert_nothing_left()

    def test_goes_on_without_its_terminal(self):
        job = self.job("--steps", 2000, detach=True)
        self.assertEqual(job.wait_exit(), 0)
        self.assertEqual(job.last("event"), "detached")
        self.assertFalse(self.home.processes(), "no process stays behind")
        self.assertIn("running on a cluster", self.refused("run", "--name", "job", *KUBERNETES, "--", "digits", code=2))
        followed = self.home.launcher("events", "job", "-f", "-o", "json", seconds=120)
        self.assertEqual(json.loads(followed.stdout.splitlines()[-1])["kind"], "succeeded", followed.stderr)
        self.assertEqual(job.status()["phase"], "succeeded")
        self.assertEqual([event["kind"] for event in job.events()][-1], "succeeded")
        self.assert_nothing_left(seconds=60)

    def test_are_fetched_by_whoever_looks_first(self):
        job = self.job("--steps", 200, detach=True)
        job.wait_exit()
        # Nobody looks while it ends.
        self.wait_left("configmap/")
        muster.wait_until(lambda: "succeeded" in self.kubectl(
            "-n", self.space, "get", "configmaps", "-o", "jsonpath={.items[*].data.result}"), 60, "the result")
        self.assertEqual(job.status()["phase"], "succeeded")
        self.assertEqual([event["kind"] for event in job.events()][-1], "succeeded")
        self.assert_nothing_left(seconds=60)

    def test_survive_their_coordinator(self):
        job = self.job(*LONG)
        job.wait_step(20)
        self.kubectl("-n", self.space, "delete", self.coordinator(), "--grace-period=0", "--force")
        self.wait_told(job, "was cut")
        self.wait_told(job, "the coordinator answers again", seconds=90)
        job.wait_step(job.step + 20)
        job.stop()
        self.assertEqual(job.finished()["phase"], "stopped")
        numbers = [event["sequence"] for event in job.events()]
        self.assertEqual(numbers, sorted(set(numbers)), "every event once")
        self.assert_nothing_left()

    def test_end_when_somebody_deletes_them(self):
        job = self.job(*LONG)
        job.wait_step(5)
        self.kubectl("-n", self.space, "delete", "configmaps", "-l", "muster.dev/job=job")
        last = job.finished(code=1)
        self.assertIn("somebody has deleted the run", last["message"])
        self.assertEqual(job.status()["phase"], "failed")
        self.assert_nothing_left()


class Signals(LaptopTest):
    def test_ctrl_c_leaves_the_run_alone_and_stop_ends_it(self):
        job = self.job(*LONG)
        job.wait_step(5)
        job.process.send_signal(signal.SIGINT)
        self.assertEqual(job.wait_exit(), 130)
        self.assertEqual(job.last("event"), "detached")
        step = job.status()["step"]
        muster.wait_until(lambda: job.status()["step"] > step, 30, "the run to go on")
        job.stop()
        self.assertEqual(self.left(), [], "stop returns when nothing is left")
        self.assertEqual(job.status()["phase"], "stopped")

    def test_sigterm_stops_after_the_step(self):
        job = self.job(*LONG)
        job.wait_step(5)
        job.process.send_signal(signal.SIGTERM)
        last = job.finished(code=143)
        self.assertEqual(last["phase"], "stopped")
        self.assertTrue(last["weights"], "it has ended in good order")
        self.assertEqual(self.left(), [])

    def test_a_second_sigterm_deletes_the_run(self):
        job = self.job(*LONG)
        job.wait_step(5)
        self.node.freeze()  # so that it cannot stop in good order
        self.addCleanup(self.node.thaw)
        job.process.send_signal(signal.SIGTERM)
        self.wait_told(job, "again to delete")
        # Two within a moment are taken for one.
        muster.wait_until(lambda: job.process.send_signal(signal.SIGTERM) or "deleting the run" in job.stderr(), 60,
                          "the launcher to give up waiting", job.explain)
        self.node.thaw()
        # The coordinator may wake up in time to do what the first one has asked of it.
        self.assertIn(job.finished(code=143)["message"], ("killed by the user", "stopped by SIGTERM"))
        self.assert_nothing_left()

    def test_stop_now_deletes_it_at_once(self):
        job = self.job(*LONG)
        job.wait_step(5)
        job.stop("--now")
        self.assertEqual(job.finished()["message"], "deleted by launcher stop --now")
        self.assertGreaterEqual(job.status()["step"], 5)
        self.assert_nothing_left()


class Reasons(LaptopTest):
    def test_of_the_scheduler_are_told_until_there_is_a_node(self):
        self.kubectl("cordon", "node-a")
        self.addCleanup(self.kubectl, "uncordon", "node-a")
        job = self.job("--steps", 200)
        self.wait_told(job, "has no node yet: 0/2 nodes are available: 2 node(s) were unschedulable")
        self.assertIn("unschedulable", job.status()["message"])
        self.kubectl("uncordon", "node-a")
        self.assertEqual(job.finished()["phase"], "succeeded")
        told = [line for line in job.stderr().splitlines() if "were unschedulable" in line]
        self.assertEqual(len(told), len(set(told)), "each once")

    def test_of_a_quota_are_told_and_what_never_ran_is_just_deleted(self):
        self.kubectl("-n", self.space, "create", "quota", "none", "--hard=pods=0")
        job = self.job("--steps", 200)
        self.wait_told(job, "the coordinator's pod cannot be made: exceeded quota: none")
        job.process.send_signal(signal.SIGTERM)
        self.assertEqual(job.finished(code=143)["phase"], "stopped")
        self.assert_nothing_left()

        # Its program is in the image, so there is nothing to send.
        (self.home.work / "image.json").write_text(json.dumps({"image": "muster:test"}))
        waiting = self.job("--steps", 200, name="waiting", detach=True, flags=("-f", "image.json"))
        waiting.wait_exit()
        waiting.stop()
        self.assertEqual(waiting.status()["message"], "stopped before anything ran")
        self.assert_nothing_left()


class Rights(LaptopTest):
    RUN = ("run", "--name", "job", *KUBERNETES, "--", "digits")

    def without(self, resource):
        """Takes the rights on `resource` from the user."""
        role = json.loads(self.kubectl("-n", self.space, "get", "role", "muster-user", "-o", "json"))
        for rule in role["rules"]:
            rule["resources"] = [name for name in rule["resources"] if name != resource]
        role["rules"] = [rule for rule in role["rules"] if rule["resources"]]
        self.kubectl("-n", self.space, "replace", "-f", "-", text=json.dumps(role))

    def test_are_enough_and_checked_without_making_anything(self):
        answer = self.home.json("run", *KUBERNETES, "--dry-run", "-o", "json", "--", "digits")
        self.assertTrue(answer["ok"], answer)
        self.assertEqual([item["kind"] for item in answer["objects"]],
                         ["ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding", "Service", "Job", "Pod", "Pod"])
        self.assertEqual((self.left(), self.home.json("ps")), ([], []))
        report = self.home.json("doctor", *KUBERNETES)
        self.assertTrue(report["ok"], report)

    def test_that_are_missing_are_named_and_nothing_is_left(self):
        self.without("roles")
        told = self.refused(*self.RUN, code=5)
        self.assertIn("you may not make the Role ", told)
        self.assertIn("--service-account", told)
        self.assertIn(f"launcher render --rbac -n {self.space}", told)
        self.assertEqual(self.home.json("status", "job")["phase"], "failed")
        self.assert_nothing_left()
        done = self.home.launcher("doctor", *KUBERNETES, "-o", "json")
        self.assertEqual(done.returncode, 2)
        rights = next(check for check in json.loads(done.stdout)["checks"] if check["check"] == "rights")
        self.assertIn("missing", rights["detail"])
        self.assertIn("create, get, patch roles.rbac.authorization.k8s.io", rights["detail"])
        self.assertNotIn("secrets", rights["detail"])

    def test_in_another_namespace_are_not_there(self):
        for verb in (("--",), ("--dry-run", "--")):
            told = self.home.launcher("run", *KUBERNETES, "-n", "default", *verb, "digits")
            self.assertEqual(told.returncode, 5, told.stderr)
            self.assertIn("you may not make the ConfigMap", told.stdout + told.stderr)

    def test_do_not_help_where_a_policy_refuses_the_pods(self):
        job_file = self.home.work / "job.yaml"
        job_file.write_text(f"program: {{path: {muster.BIN / 'digits'}}}\npools:\n- name: big\n  workers: 1\n"
                            "  priority_class: no-such-class\n")
        done = self.home.launcher("run", *KUBERNETES, "-f", job_file, "--dry-run", "-o", "json")
        self.assertEqual(done.returncode, 5, done.stdout + done.stderr)
        refused = [item for item in json.loads(done.stdout)["objects"] if not item["ok"]]
        self.assertEqual(len(refused), 1, refused)
        self.assertIn("no-such-class", refused[0]["message"])

    def test_a_cluster_that_is_not_there_is_told(self):
        config = self.home.root / "kubeconfig"
        text = json.loads(config.read_text())
        text["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        config.write_text(json.dumps(text))
        self.refused("doctor", *KUBERNETES, code=5)
        self.assertIn("127.0.0.1", self.refused("ps", *KUBERNETES, code=5))
        self.assertIn("no context", self.refused("ps", *KUBERNETES, "--context", "moon", code=2))


class Elsewhere(LaptopTest):
    def test_a_run_is_watched_resized_and_stopped_from_another_machine(self):
        job = self.job(*LONG, workers="1:2", detach=True)
        job.wait_exit()
        other = self.new_home()
        here = ("-n", self.space)
        status = lambda: other.json("status", "job", *here)  # noqa: E731
        muster.wait_until(lambda: status()["world_size"] == 2, 60, "two workers", lambda: str(status()))
        self.assertEqual([row["name"] for row in other.json("ps", *KUBERNETES, *here)], ["job"])
        other.json("resize", "3", *here)
        muster.wait_until(lambda: status()["world_size"] == 3, 60, "three workers", lambda: str(status()))
        self.assertIn('"resize"', other.launcher("events", "job", *here, "-o", "json").stdout)
        with subprocess.Popen([muster.LAUNCHER, "top", "job", *here, "-o", "json"], env=other.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True) as top:
            self.assertEqual([json.loads(top.stdout.readline())["world_size"] for _ in range(2)], [3, 3])
            top.terminate()
        logs = other.launcher("logs", "job", *here, "-o", "json")
        self.assertEqual(logs.returncode, 0, logs.stderr)
        workers = {json.loads(line)["worker"] for line in logs.stdout.splitlines()}
        self.assertEqual(workers, {worker["id"] for worker in status()["workers"]})
        self.assertIn("no worker of that id", self.refused("logs", "job", "--workers", "w-9", *here, code=2, home=other))
        other.launcher("stop", "job", *here)
        # What it has left is for the machine that started it.
        self.assertEqual(job.status()["phase"], "stopped")
        self.assertEqual(other.json("ps"), [])
        self.assert_nothing_left(seconds=60)
        self.assertIn("has no job", self.refused("status", "job", *here, code=2, home=other))

    def test_logs_are_followed_to_the_end(self):
        job = self.job("--steps", 3000, detach=True)
        job.wait_exit()
        log = self.home.launcher("logs", "job", "-f", "-o", "json", seconds=120)
        self.assertEqual(log.returncode, 0, log.stderr)
        self.assertEqual(job.status()["phase"], "succeeded")
        # Each pod's log came from its beginning.
        started = {line["worker"] for line in map(json.loads, log.stdout.splitlines()) if " started, pid " in line["line"]}
        self.assertEqual(started, {worker["id"] for worker in job.status()["workers"]})


if __name__ == "__main__":
    unittest.main(verbosity=2)
