#!/usr/bin/env python3
"""Tests of tools/check_tree: each feeds a small tree with one fault and expects just that fault to be named."""

import importlib.machinery
import importlib.util
import pathlib
import tempfile
import unittest

_loader = importlib.machinery.SourceFileLoader("check_tree", str(pathlib.Path(__file__).with_name("check_tree")))
check_tree = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_tree", _loader))
_loader.exec_module(check_tree)

HEADER = "// A thing.\n#pragma once\n"
GOOD = {
    "runtime/base/time.h": HEADER,
    "runtime/base/CMakeLists.txt": "muster_library(base SOURCES time.cc)\n",
    "runtime/base/time.cc": '#include "runtime/base/time.h"\n',
    "runtime/core/CMakeLists.txt": "muster_test(core_test SOURCES core_test.cc)\n",
    "runtime/core/core.h": HEADER + '#include <map>\n#include "runtime/base/time.h"\n',
    "runtime/core/core_test.cc": '#include <fstream>\n#include "runtime/core/core.h"\n',
}


class CheckTree(unittest.TestCase):
    def complaints(self, files, removed=()):
        """What check_tree says of the good tree with `files` added or replaced, as "path: text" lines."""
        with tempfile.TemporaryDirectory() as root:
            tree = {path: text for path, text in {**GOOD, **files}.items() if path not in removed}
            for path, content in tree.items():
                target = pathlib.Path(root, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content if isinstance(content, bytes) else content.encode())
            return [f"{path}: {text}" for path, _, text in check_tree.complaints(check_tree.Tree(root))]

    def assert_one(self, words, files, removed=()):
        found = self.complaints(files, removed)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_a_good_tree_passes(self):
        self.assertEqual(self.complaints({}), [])

    def test_base_must_not_include_core(self):
        self.assert_one("runtime/base must not include",
                        {"runtime/base/time.cc": '#include "runtime/core/core.h"\n'})

    def test_nobody_includes_the_launcher(self):
        self.assert_one("models must not include",
                        {"models/m.h": HEADER + '#include "launcher/verbs/run.h"\n'})

    def test_a_backend_must_not_include_another_one(self):
        self.assert_one("collectives/host must not include",
                        {"collectives/host/h.h": HEADER + '#include "collectives/inproc/inproc.h"\n'})

    def test_a_backend_may_include_what_lies_right_in_collectives(self):
        self.assertEqual(self.complaints({
            "collectives/host/h.h": HEADER + '#include "collectives/communicator.h"\n'}), [])

    def test_a_backends_test_may_include_another_one(self):
        self.assertEqual(self.complaints({
            "collectives/host/CMakeLists.txt": "h_test.cc\n",
            "collectives/host/h_test.cc": '#include "collectives/inproc/inproc.h"\n'}), [])

    def test_includes_are_written_from_the_root(self):
        self.assert_one("path from the root", {"runtime/base/time.cc": '#include "time.h"\n'})

    def test_a_new_folder_must_say_whom_it_includes(self):
        self.assert_one("MAY_INCLUDE", {"gadgets/g.h": HEADER + '#include "runtime/base/time.h"\n'})

    def test_core_has_no_thread(self):
        self.assert_one("is pure", {"runtime/core/core.h": HEADER + "#include <thread>\n"})

    def test_core_has_no_grpc(self):
        self.assert_one("is pure", {"runtime/core/core.h": HEADER + "#include <grpcpp/grpcpp.h>\n"})

    def test_decisions_outside_of_core_are_pure_too(self):
        self.assert_one("is pure", {"launcher/CMakeLists.txt": "agent/agent_core.cc",
                                    "launcher/agent/agent_core.cc": "#include <unistd.h>\n"})

    def test_core_reads_no_clock(self):
        self.assert_one("reads no clock",
                        {"runtime/core/core.h": HEADER + "auto t = std::chrono::steady_clock::now();\n"})

    def test_unfinished_work_does_not_land(self):
        self.assert_one("TODO", {"tools/a.py": "# TODO: later\n"})
        self.assert_one("hack", {"README.md": "An ugly hack.\n"})

    def test_temporary_file_templates_are_not_unfinished_work(self):
        self.assertEqual(self.complaints({"tools/a.py": 'name = "muster-XXXXXX"\n'}), [])

    def test_paths_of_one_machine_do_not_land(self):
        self.assert_one("developer", {"README.md": "See /home/ada/muster.\n"})

    def test_unit_tests_do_not_sleep(self):
        self.assert_one("waits for an event",
                        {"runtime/core/core_test.cc": "std::this_thread::sleep_for(1s);\n"})

    def test_trailing_whitespace(self):
        self.assert_one("trailing whitespace", {"README.md": "Hello \n"})

    def test_headers_open_with_a_comment_and_are_guarded(self):
        self.assert_one("opens with a comment", {"runtime/core/core.h": "\n#pragma once\n"})
        self.assert_one("no #pragma once", {"runtime/core/core.h": "// A thing.\n"})

    def test_a_test_that_is_not_registered_is_named(self):
        self.assert_one("named in no CMakeLists", {"runtime/core/vote_test.cc": "int x;\n"})

    def test_a_name_that_only_ends_alike_does_not_count_as_registered(self):
        self.assert_one("e_test.cc", {"runtime/core/e_test.cc": "int x;\n"})

    def test_large_headers_and_sources_are_named(self):
        self.assert_one("201 lines, at most 200", {"runtime/core/core.h": HEADER + "\n" * 199})
        self.assert_one("401 lines, at most 400", {"runtime/base/time.cc": "\n" * 401})

    def test_the_ratchet_allows_an_old_size_and_no_more(self):
        sizes = {check_tree.SIZES_FILE: "# why\nruntime/base/time.cc 450\n"}
        self.assertEqual(self.complaints({**sizes, "runtime/base/time.cc": "\n" * 450}), [])
        self.assert_one("451 lines, at most 450", {**sizes, "runtime/base/time.cc": "\n" * 451})
        self.assert_one("needs no exception", {**sizes, "runtime/base/time.cc": "\n" * 400})

    def test_ratcheting_lowers_and_never_raises(self):
        with tempfile.TemporaryDirectory() as root:
            for path, lines in {"a/low.cc": 420, "a/high.cc": 480, "a/fine.cc": 10}.items():
                pathlib.Path(root, "a").mkdir(exist_ok=True)
                pathlib.Path(root, path).write_text("\n" * lines)
            sizes = pathlib.Path(root, check_tree.SIZES_FILE)
            sizes.parent.mkdir()
            sizes.write_text("# why\na/low.cc 450\na/high.cc 450\na/fine.cc 450\n")
            check_tree.ratchet(check_tree.Tree(root))
            self.assertEqual(sizes.read_text(), "# why\na/high.cc 450\na/low.cc 420\n")

    def test_huge_files_are_named(self):
        self.assert_one("bytes, at most", {"models/digits/data/d.bin": b"\0" * 600_001})


if __name__ == "__main__":
    unittest.main()
