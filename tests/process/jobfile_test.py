#!/usr/bin/env python3
"""A job said by a file: the same job as by flags, flags over it, and refusals that name their places.

    MUSTER_BIN=build/bin tests/process/jobfile_test.py
"""

import json
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402

STEPS = ("--steps", 40, "--seed", 7)


class JobFileTest(muster.JobTest):
    maxDiff = None

    def write(self, text, name="job.yaml", folder=None):
        folder = folder or self.home.work
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        return folder / name

    def digits(self, more="", name="by-file", workers="2"):
        return (f"name: {name}\nprogram: {{path: {muster.BIN}/digits, args: [--steps, 40, --seed, 7]}}\n"
                f"workers: {workers}\n{more}")

    def run_file(self, *arguments, seconds=60):
        """The finished object of `launcher run ARGUMENTS`."""
        done = self.home.launcher("run", "-o", "json", *arguments, seconds=seconds)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def plan(self, *arguments):
        done = self.home.launcher("plan", "-o", "json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def refusal(self, verb, *arguments):
        done = self.home.launcher(verb, "-o", "json", *arguments)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        return done.stderr


class Runs(JobFileTest):
    def test_give_the_same_bits_as_flags(self):
        expected = self.home.by_hand("digits", *STEPS)
        by_flags = self.job("digits", STEPS, workers=2).finished()
        self.write(self.digits())
        self.write(json.dumps({"name": "by-json", "workers": "1:3",
                               "program": {"path": "digits", "args": ["--steps", 40, "--seed", "7"]}}), "job.json")
        for finished in (by_flags, self.run_file("-f", "job.yaml"), self.run_file("-f", "job.json")):
            self.assert_same_result(finished, expected)
        self.assertEqual(self.home.json("status", "by-json")["max_workers"], 3)

    def test_let_flags_win(self):
        self.write(self.digits())
        finished = self.run_file("-f", "job.yaml", "--name", "mine", "--workers", "3", "--", "digits", "--steps", 3)
        self.assertEqual(finished["step"], 3)
        status = self.home.json("status", "mine")
        self.assertEqual((status["max_workers"], status["step"]), (3, 3))

    def test_add_up_the_pools_and_set_aside_what_only_a_cluster_has(self):
        self.write("name: pools\nprogram: {path: digits, args: [--steps, 5]}\n"
                   "pools:\n  - {name: a, workers: 2, capacity: spot}\n  - {name: b, workers: 0:1, device: gpu}\n")
        refused = self.refusal("run", "-f", "job.yaml")
        self.assertIn("job.yaml:4:37: pools[0].capacity needs --platform kubernetes\n"
                      "job.yaml:5:37: pools[1].device gpu needs --platform kubernetes\n", refused)
        done = self.home.launcher("run", "-f", "job.yaml", "--platform", "local", "-o", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("set aside on this machine: job.yaml:4:37: pools[0].capacity", done.stderr)
        status = self.home.json("status", "pools")
        self.assertEqual((status["min_workers"], status["max_workers"]), (2, 3))

    def test_give_the_workers_their_environment_and_folder(self):
        program = self.write("#!/bin/sh\necho \"[$LEVEL][$EMPTY][$OMP_NUM_THREADS][$1][$(pwd)]\"\nexit 9\n", "show",
                             self.home.root / "there")
        program.chmod(0o755)
        self.write("name: shown\nprogram: {path: ./show, args: [no]}\nworkers: 1\n"
                   "environment: {LEVEL: 010, EMPTY: \"\", OMP_NUM_THREADS: 2, MUSTERED: yes}\n", folder=program.parent)
        done = self.home.launcher("run", "-f", "../there/job.yaml", "-o", "json", seconds=60)
        self.assertEqual(done.returncode, 3, done.stderr)
        logs = self.home.launcher("logs", "shown").stdout
        self.assertIn(f"[010][][2][no][{program.parent}]", logs)

    def test_keep_checkpoints_beside_the_file_and_resume(self):
        there = self.home.root / "there"
        self.write(self.digits("checkpoint: {dir: kept, every_steps: 10}\n"), folder=there)
        first = self.run_file("-f", "../there/job.yaml")
        self.assertEqual(first["step"], 40)
        self.assertTrue(any((there / "kept").glob("step-*40")))
        self.assertIn("earlier run", self.refusal("run", "-f", "../there/job.yaml"))
        again = self.run_file("-f", "../there/job.yaml", "--resume", "--", "digits", "--steps", 50, "--seed", 7)
        self.assertEqual(again["step"], 50)
        self.assertEqual(again["weights"], self.home.by_hand("digits", "--steps", 50, "--seed", 7)["weights"])

    def test_of_the_example_train(self):
        finished = self.run_file("-f", muster.ROOT / "docs" / "examples" / "digits.yaml", "--name", "example")
        self.assertEqual((finished["phase"], finished["step"]), ("succeeded", 200))


class Plans(JobFileTest):
    def test_say_what_would_happen_and_start_nothing(self):
        self.write(self.digits("checkpoint: {dir: kept, every_steps: 10}\nreduce: float\n", workers="1:2"))
        plan = self.plan("-f", "job.yaml", "--workers", "3", "--", "digits", "--steps", "5")
        self.assertEqual(plan["workers"], {"min": 3, "max": 3})
        self.assertEqual(plan["processes"]["total"], 8)
        self.assertEqual(plan["program"]["path"], muster.program_path("digits"))
        self.assertEqual(plan["checkpoint"]["dir"], str(self.home.work / "kept"))
        self.assertIsNone(plan["checkpoint"]["found_step"])
        values = {row["key"]: row for row in plan["values"]}
        self.assertEqual(values["workers"], {"key": "workers", "value": "3", "from": "--workers", "overrides": "1:2"})
        self.assertEqual(values["reduce"], {"key": "reduce", "value": "float", "from": "job.yaml:5:9"})
        self.assertEqual(values["collectives"]["from"], "default")
        self.assertTrue(values["program"]["overrides"].endswith("digits --steps 40 --seed 7"))
        text = self.home.launcher("plan", "-f", "job.yaml").stdout
        self.assertIn("nothing was started", text)
        self.assertIn("fresh, from step 0", text)
        self.assertEqual(self.home.json("ps"), [])
        self.assertFalse((self.home.work / "kept").exists(), "a plan makes no folder")

    def test_find_the_checkpoint_that_a_run_would_resume_from(self):
        self.write(self.digits("checkpoint: {dir: kept, every_steps: 10, resume: true}\n"))
        self.assertIn("exit code 6", self.home.launcher("plan", "-f", "job.yaml").stdout)
        self.run_file("--name", "first", "--workers", 1, "--checkpoint", "kept", "--", "digits", *STEPS)
        self.assertEqual(self.plan("-f", "job.yaml")["checkpoint"]["found_step"], 40)
        self.assertIn("resumes from step 40", self.home.launcher("plan", "-f", "job.yaml").stdout)

    def test_of_a_cluster_name_the_pods_and_what_is_sent(self):
        example = muster.ROOT / "docs" / "examples" / "cluster.yaml"
        plan = self.plan("-f", example, "--image", "mine:1")
        base, spot = plan["pools"]
        self.assertEqual((base["pods"], base["workers_a_pod"], base["requests"]), ({"min": 4, "max": 4}, 2, {"cpu": "6", "memory": "8Gi"}))
        self.assertEqual((spot["pods"], spot["capacity"]), ({"min": 0, "max": 16}, "spot"))
        self.assertEqual((plan["image"], plan["sends"]["files"]), ("mine:1", 1))
        text = self.home.launcher("plan", "-f", example).stdout
        self.assertRegex(text, "base +4 to 4 +cpu 6, memory 8Gi +m7i.2xlarge or m7a.2xlarge, on-demand")
        self.assertIn("would run on Kubernetes; nothing was started", text)

    def test_need_no_file(self):
        plan = self.plan("--workers", 2, "--", "digits")
        self.assertIsNone(plan["name"])
        self.assertEqual({row["from"] for row in plan["values"]}, {"default", "--workers", "-- PROGRAM"})

    def test_refuse_what_run_would_refuse(self):
        job = self.job("digits", ("--steps", 10_000_000), workers=1)
        job.wait_step(1)
        self.assertIn("is running already", self.refusal("plan", "--name", "job", "--", "digits"))
        job.stop("--now")
        job.finished()


class Refusals(JobFileTest):
    def test_name_every_mistake_and_its_place_at_once(self):
        self.write("name: x\nworkrs: 2\nprogram: {path: digits}\nreduce: exakt\nheartbeat_timeout_ms: 1e3\nname: y\n")
        for verb in ("run", "plan"):
            told = self.refusal(verb, "-f", "job.yaml")
            self.assertEqual(told.splitlines(), [
                f"launcher {verb}: job.yaml has 4 errors",
                'job.yaml:2:1: there is no key "workrs" in a job file; did you mean workers?',
                'job.yaml:4:9: reduce is "exakt", it must be one of exact, float; did you mean exact?',
                'job.yaml:5:23: heartbeat_timeout_ms is "1e3", it must be a whole number from 100 to 600000; '
                "write decimal digits only",
                'job.yaml:6:1: "name" is given twice, first in line 1'])
        self.assertEqual(self.home.json("ps"), [])

    def test_of_a_file_that_cannot_be_read_name_the_flag(self):
        self.write("name: x\n")
        self.assertIn("did you mean job.yaml?", self.refusal("run", "-f", "job.yml"))
        self.assertIn("-f", self.refusal("run", "-f", ""))
        self.assertIn("folder", self.refusal("run", "-f", "."))
        self.assertIn("larger", self.refusal("run", "-f", "/dev/zero"))

    def test_of_what_cannot_be_done_here_name_the_place(self):
        cases = [
            ("collectives: mpi\n", "job.yaml:4:14: collectives mpi is not available"),
            ("image: x/y:1\n", "job.yaml:4:8: image needs --platform kubernetes"),
            ("files: [job.yaml, gone]\n", "job.yaml:4:19: files[1] is "),
            ("checkpoint: {dir: /dev/null}\n", "job.yaml:4:19: checkpoint.dir is "),
        ]
        for more, told in cases:
            with self.subTest(more=more):
                self.write(self.digits(more))
                self.assertIn(told, self.refusal("plan", "-f", "job.yaml"))
                self.assertIn(told, self.refusal("run", "-f", "job.yaml"))
        self.write(self.digits("checkpoint: {dir: /proc/nothing}\n"))  # root may write there, but nothing can be made
        self.assertIn("job.yaml:4:19: checkpoint.dir is ", self.refusal("run", "-f", "job.yaml"))
        self.write("program: {path: ./gone}\n")
        self.assertIn("job.yaml:1:17: ", self.refusal("run", "-f", "job.yaml"))
        self.write("workers: 2\n")
        self.assertIn("no program", self.refusal("run", "-f", "job.yaml"))


class Renders(JobFileTest):
    CLUSTER = muster.ROOT / "docs" / "examples" / "cluster.yaml"

    def test_print_the_objects_of_the_example_and_make_nothing(self):
        objects = self.home.json("render", "-f", self.CLUSTER, "-n", "research", "--image", "mine:1")["items"]
        kinds = ["ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding", "Service", "Job", "Pod", "Pod"]
        self.assertEqual([item["kind"] for item in objects], kinds)
        self.assertEqual({item["metadata"]["namespace"] for item in objects}, {"research"})
        owned = [item["metadata"].get("ownerReferences") for item in objects]
        self.assertEqual(owned[1:], [[{"apiVersion": "v1", "kind": "ConfigMap", "name": "digits-cluster-00000",
                                       "uid": "<uid of the ConfigMap>", "controller": True}]] * 8)
        self.assertEqual([item["spec"]["containers"][0]["image"] for item in objects[-2:]], ["mine:1"] * 2)
        text = self.home.launcher("render", "-f", self.CLUSTER).stdout
        self.assertEqual([line.split()[1] for line in text.splitlines() if line.startswith("kind: ")], kinds)
        self.assertIn("# Pool base: 8 workers in up to 4 pods like this one", text)
        self.assertEqual(self.home.json("ps"), [])

    def test_leave_rights_out_for_a_service_account(self):
        self.write(self.digits())
        objects = self.home.json("render", "-f", "job.yaml", "--service-account", "robot")["items"]
        self.assertEqual([item["kind"] for item in objects], ["ConfigMap", "Secret", "Service", "Job", "Pod"])
        self.assertEqual(objects[3]["spec"]["template"]["spec"]["serviceAccountName"], "robot")

    def test_print_what_a_user_needs(self):
        role, binding = self.home.json("render", "--rbac", "-n", "research", "--user", "ada")["items"]
        self.assertEqual((role["kind"], binding["kind"]), ("Role", "RoleBinding"))
        self.assertEqual(binding["subjects"][0]["name"], "ada")

    def test_refuse_with_the_place(self):
        self.write("program: {path: ./train}\nimage: mine:1\n")
        self.assertIn("job.yaml:1:17: program.path is", self.refusal("render", "-f", "job.yaml"))
        self.write("workrs: 2\n")
        self.assertIn("job.yaml:1:1: ", self.refusal("render", "-f", "job.yaml"))

    def test_survive_that_nobody_reads(self):
        done = subprocess.run(["/bin/bash", "-c", f"'{muster.LAUNCHER}' render --rbac >&-"], capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Schema(JobFileTest):
    def test_is_shown_and_is_a_json_schema(self):
        self.assertIn("checkpoint.every_steps", self.home.launcher("schema").stdout)
        schema = self.home.json("schema")
        self.assertFalse(schema["additionalProperties"])
        self.assertEqual(schema["properties"]["checkpoint"]["properties"]["every_steps"]["minimum"], 1)


if __name__ == "__main__":
    unittest.main()
