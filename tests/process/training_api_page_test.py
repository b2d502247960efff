#!/usr/bin/env python3
"""The programs on docs/training-api.md are the files beside this test, to the letter: those are compiled with every build.

    training_api_page_test.py
"""

import pathlib
import re
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs/training-api.md"


def programs():
    """The C++ blocks of the page that are whole programs, in their order."""
    blocks = re.findall(r"```cpp\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [block for block in blocks if "int main(" in block]


class TrainingApiPage(unittest.TestCase):
    maxDiff = None

    def test_the_page_shows_two_programs(self):
        self.assertEqual(len(programs()), 2)

    def test_the_first_is_user_program(self):
        self.assertEqual(programs()[0], (HERE / "user_program.cc").read_text())

    def test_the_second_is_user_loop(self):
        self.assertEqual(programs()[1], (HERE / "user_loop.cc").read_text())


if __name__ == "__main__":
    unittest.main()
