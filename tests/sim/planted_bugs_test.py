#!/usr/bin/env python3
"""The simulation finds bugs: each of those below, planted into the real code, makes some history go wrong.

    tests/sim/planted_bugs_test.py [--build build] [--histories 20000] [word of a bug ...]

Each is compiled into a program of its own; the tree stays as it is.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]

MEMBER = "runtime/core/member.cc"
RECOVERY = "runtime/core/recovery.cc"
VOTE = "runtime/core/vote.cc"
COORDINATOR = "launcher/rendezvous/coordinator.cc"
AGENTS = "launcher/rendezvous/coordinator_agents.cc"
DECIDE = "launcher/rendezvous/decide.cc"
GENERATIONS = "launcher/rendezvous/coordinator_generations.cc"
WORKERS = "launcher/rendezvous/coordinator_workers.cc"
EVICTIONS = "launcher/rendezvous/coordinator_evictions.cc"



class Bug(typing.NamedTuple):
    name: str
    file: str
    right: str  # what stands there, once
    wrong: str  # what is put in its place
    first: int = 1  # the first history to play: one shortly before it is found, if that is rare


BUGS = [Bug(*row) for row in (
    ("an old order is obeyed", MEMBER,
     "  if (number <= highest_seen_) return {};", ""),
    ("what a vote has decided for is entered after a newer urgent order", MEMBER,
     "if (number <= revoked_ || overtaken) return false;", "if (number <= revoked_) return false;", 43000),
    ("a generation is voted for before it is built", MEMBER,
     "    actions.push_back(BuildGeneration{ordered_, !order.urgent});",
     "    prepared_ = number;\n    actions.push_back(BuildGeneration{ordered_, !order.urgent});"),
    ("a switch does not need everybody's vote", VOTE,
     "return highest == lowest && highest > active", "return highest > active"),
    ("a committed step is undone", RECOVERY,
     "plan.target = std::max(plan.target, entry.position);", "plan.target = entry.position;"),
    ("redo is forgotten", RECOVERY,
     "can_redo ? Action::kRedo : Action::kTransfer;", "can_redo ? Action::kNone : Action::kTransfer;"),
    ("a step is redone without its sum", RECOVERY,
     " && entry.reduced_at == entry.position;", ";"),
    ("the journal does not hear of a new generation", GENERATIONS,
     "  PersistState();\n  for (const std::string& id : audience)", "  for (const std::string& id : audience)"),
    ("a number is given to two generations", GENERATIONS,
     "Generation generation{++state_.last_generation, {}};",
     "if (urgent || !state_.proposed) ++state_.last_generation;\n  if (state_.last_generation % 4 == 0) --state_.last_generation;\n"
     "  Generation generation{state_.last_generation, {}};"),
    ("a former process counts as a member", COORDINATOR,
     "state_.active->members[static_cast<size_t>(rank)].incarnation == worker.incarnation;", "worker.incarnation != 0;"),
    ("a new coordinator does not wait for the members of before", COORDINATOR,
     "for (const Member& member : generation->members) Await(member);", ""),
    ("who comes back with a generation that is over may stay in it", WORKERS,
     "  if (hello.generation != 0) return hello.generation;", "  if (hello.generation != 0) return 0;", 8000),
    ("a slot that is needed again gets no worker", AGENTS,
     "    actions_.push_back(\n"
     '        SendAgent{event.slot, SendAgent::Kind::kRestartWorker, "this slot is needed again"});\n    return;', "    return;"),
    ("who is evicted is not told", COORDINATOR,
     "  SendTo(id, {Order::Kind::kRejoin, {}, false, cause});", ""),
    ("who leaves is not asked for its vote", GENERATIONS,
     "if (generation.RankOf(member.worker) < 0) audience.push_back(member.worker);", ""),
    ("a build that fails is not reported", MEMBER,
     "  return {SayBuildFailed(number, reason, std::move(unreachable))};", "  SayBuildFailed(number, reason, std::move(unreachable));\n  return {};"),
    ("what could not be built is forgotten", MEMBER,
     "  if (number == failure_.generation) return {SendReport{failure_}};", "", 16000),
    ("a dead generation still has to vote", MEMBER,
     "  urgent_ = active_ == 0 || broken_;", "  urgent_ = active_ == 0;"),
    ("the journal does not hear of a switch", GENERATIONS,
     "  PersistState();\n}\n\nvoid Coordinator::MarkActiveDead", "}\n\nvoid Coordinator::MarkActiveDead"),
    ("workers that come back are waited for, for ever", EVICTIONS,
     "if (worker.awaited && silence > options_.heartbeat_timeout) {", "if (worker.awaited && silence > options_.start_timeout) {"),
)]


def plant(bug):
    text = (ROOT / bug.file).read_text()
    if text.count(bug.right) != 1:
        raise SystemExit(f"{bug.file} has {text.count(bug.right)} times what {bug.name!r} wants to replace; "
                         f"say in {__file__} what it is now:\n{bug.right}")
    return text.replace(bug.right, bug.wrong)


class Toolchain:
    """How the build compiles a file and links the simulation."""

    def __init__(self, build):
        self.build = build
        commands = json.loads((build / "compile_commands.json").read_text())
        self.compile_of = {os.path.relpath(entry["file"], ROOT): shlex.split(entry["command"]) for entry in commands}
        lines = subprocess.run(["ninja", "-C", build, "-t", "commands", "tests/sim_test"], capture_output=True, text=True, check=True).stdout
        self.link = next(line for line in reversed(lines.splitlines()) if " -o tests/sim_test " in line)

    def build_with(self, folder, file, text):
        """The simulation with `text` in the place of that file."""
        source, thing, program = folder / "planted.cc", folder / "planted.o", folder / "sim_test"
        source.write_text(text)
        command = self.compile_of[file]
        command = [thing if before == "-o" else source if word.endswith(file) else word
                   for before, word in zip([""] + command, command)]
        self.run([word for word in command if word != "-Werror"])
        # What is named first is taken from nowhere else.
        self.run(["sh", "-c", re.sub(r" -o tests/sim_test ", f" {thing} -o {program} ", self.link)])
        return program

    def run(self, command):
        done = subprocess.run(list(map(str, command)), cwd=self.build, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")


def simulate(program, first, histories):
    """What the simulation says is wrong; None if it finds nothing."""
    for test in ("KeepTheInvariantsAndRecover", "DoSoWhereAPlatformBringsAndTakesTheSlots"):
        done = subprocess.run([program, f"--gtest_filter=Histories.{test}", "--gtest_brief=1"], capture_output=True, text=True,
                              timeout=900, env={**os.environ, "MUSTER_SEED": str(first), "MUSTER_HISTORIES": str(histories),
                                                "MUSTER_TRACE_BYTES": "3000"})
        if done.returncode:
            return done.stdout + done.stderr or f"exit code {done.returncode}"
    return None


def find(tools, bug, histories):
    with tempfile.TemporaryDirectory(prefix="muster-planted-") as folder:
        return simulate(tools.build_with(pathlib.Path(folder), bug.file, plant(bug)), bug.first, histories)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--histories", type=int, default=20000)
    parser.add_argument("--show", action="store_true", help="what the simulation says of each")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    tools = Toolchain(options.build.absolute())
    if said := simulate(tools.build / "tests" / "sim_test", 1, 100):
        raise SystemExit(f"without any of them the simulation fails too:\n{said}")
    bugs = [bug for bug in BUGS if not options.words or any(word in bug.name for word in options.words)]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for bug, said in zip(bugs, pool.map(lambda bug: find(tools, bug, options.histories), bugs)):
            seed = said and re.search(r"MUSTER_SEED=(\d+)", said)
            turns = said and re.search(r"(\d+) turns of its (\d+) are enough", said)
            missed += said is None
            print(f"{bug.name}: " + (f"found by history {seed[1]}, {turns[1]} of its {turns[2]} turns are enough" if seed and turns
                                   else f"found: {said.strip().splitlines()[-1]}" if said else f"NOT FOUND in {options.histories} histories"), flush=True)
            if options.show and said:
                print(said)
    print(f"{len(bugs) - missed} of {len(bugs)} planted bugs are found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
