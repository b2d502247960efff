#!/usr/bin/env python3
"""build/bin/muster-c++ compiles and links a user's program as docs/training-api.md says, from any folder.

    user_compiler_test.py MUSTER_CXX
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

MUSTER_CXX = pathlib.Path(sys.argv.pop(1)).resolve()
PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "process/user_program.cc"


class UserCompiler(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def run_here(self, *command):
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=120)

    def assert_trains(self):
        trained = self.run_here("./my", "--steps", "5")
        self.assertEqual(trained.returncode, 0, trained.stderr)

    def test_a_program_in_one_go(self):
        built = self.run_here(MUSTER_CXX, PROGRAM, "-o", "my")
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertEqual(built.stderr, "")
        self.assert_trains()

    def test_an_object_first_and_the_link_later(self):
        compiled = self.run_here(MUSTER_CXX, "-c", PROGRAM, "-o", "my.o")
        self.assertEqual((compiled.returncode, compiled.stderr), (0, ""))
        linked = self.run_here(MUSTER_CXX, "my.o", "-o", "my")
        self.assertEqual((linked.returncode, linked.stderr), (0, ""))
        self.assert_trains()

    def test_a_mistake_of_the_user_is_the_compilers_to_explain(self):
        (self.path / "bad.cc").write_text("int main() { return nothing; }\n")
        built = self.run_here(MUSTER_CXX, "bad.cc", "-o", "my")
        self.assertNotEqual(built.returncode, 0)
        self.assertIn("nothing", built.stderr)

    def test_help(self):
        self.assertEqual(self.run_here(MUSTER_CXX, "--help").returncode, 0)
        self.assertEqual(self.run_here(MUSTER_CXX).returncode, 2)


if __name__ == "__main__":
    unittest.main()
