#!/usr/bin/env python3
"""The stock image: it has all that its programs need, the same input gives the same digest, and nobody can write to its files.

    MUSTER_BIN=build/bin tests/process/image_test.py
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402

BUILD = muster.ROOT / "k8s" / "image" / "build"
USER = "65532:65532"


class StockImage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-image-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.archive = cls.folder / "image.tar"
        cls.said = cls.build(cls.archive, "--add", muster.BIN / "digits")

    @staticmethod
    def build(output, *arguments):
        return subprocess.run([BUILD, "--launcher", muster.LAUNCHER, "-o", output, *arguments], check=True,
                              capture_output=True, text=True, timeout=120).stdout

    @classmethod
    def read(cls, name):
        with tarfile.open(cls.archive) as archive:
            return archive.extractfile(name).read()

    @classmethod
    def layer(cls):
        [image] = json.loads(cls.read("manifest.json"))
        [path] = image["Layers"]
        with tarfile.open(cls.archive) as archive, tarfile.open(fileobj=archive.extractfile(path)) as layer:
            yield from ((member, layer) for member in layer)

    def inside(self, *command):
        """`command` as a container would run it: in the image's files, as its user."""
        if os.geteuid() != 0:
            self.skipTest("only root can enter another root folder and be another user")
        root = self.folder / "root"
        if not root.exists():
            for member, layer in self.layer():
                layer.extract(member, root)
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", f"--userspec={USER}", root, *command],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True, text=True, timeout=60)

    def test_the_launcher_runs_in_it(self):
        for command in (["launcher", "version"], ["launcher", "--help"]):
            done = self.inside(*command)
            self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        self.assertIn("launcher run", done.stdout)

    def test_a_training_program_finds_its_libraries(self):
        done = self.inside("digits", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_it_has_the_name_that_render_gives_to_pods(self):
        rendered = subprocess.run([muster.LAUNCHER, "render", "-o", "json", "--", "digits"], check=True, capture_output=True,
                                  text=True).stdout
        [pod] = [item for item in json.loads(rendered)["items"] if item["kind"] == "Pod"]
        [name] = json.loads(self.read("manifest.json"))[0]["RepoTags"]
        self.assertEqual(pod["spec"]["containers"][0]["image"], name)
        [manifest] = json.loads(self.read("index.json"))["manifests"]
        self.assertEqual(manifest["annotations"]["io.containerd.image.name"], f"docker.io/library/{name}")
        self.assertEqual(self.said.split()[:2], [name, manifest["digest"]])

    def test_two_builds_are_the_same_to_the_byte(self):
        other = self.folder / "other.tar"
        self.build(other, "--add", muster.BIN / "digits")
        self.assertEqual(other.read_bytes(), self.archive.read_bytes())

    def test_others_can_write_nothing_of_it_and_no_program_changes_its_user(self):
        members = [member for member, _ in self.layer() if not member.issym()]
        self.assertGreater(len(members), 50)
        for member in members:
            self.assertEqual(member.mode & 0o6000, 0, member.name)
            if member.name != "tmp":
                self.assertEqual(member.mode & 0o022, 0, member.name)
            self.assertEqual(member.uid, 65532 if member.name == "muster" else 0, member.name)

    def test_the_licences_of_its_libraries_are_in_it(self):
        if not shutil.which("dpkg-query"):
            self.skipTest("this system has no dpkg, which knows the licences")
        names = {member.name for member, _ in self.layer()}
        for package in ("muster", "libc6", "libgrpc++1.51", "libopenblas0-pthread"):
            self.assertIn(f"usr/share/doc/{package}/copyright", names)

    def test_a_program_that_is_not_there_is_an_error_in_one_line(self):
        done = subprocess.run([BUILD, "--launcher", "/nowhere", "-o", self.folder / "no.tar"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (1, "image: /nowhere is not there; `make build` makes it\n"))
        self.assertFalse((self.folder / "no.tar").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
