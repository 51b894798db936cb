#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""chaos.py [--kills N] [--seed S]: SIGKILLs random processes of a live node, root included.

Starts a node of nested supervisors and services (some of which leave daemons behind), then kills
one or several processes at a time: services, supervisors, the log process, control, and now and
then root. After each round it demands that within the deadline every service runs exactly once, that
the tree answers, and that there is no zombie and no process of an earlier incarnation; after root's
death that nothing at all is left. Ends with an orderly shutdown. The seed is printed; the same seed
gives the same kills. $COPPICE is the program, COPPICE_NO_CGROUP=1 tests the fallback.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

DEADLINE = 20
CONF = """
node = "chaos";
supervisor: { max_restarts = 100000; max_seconds = 1; children = (
  { id = "one"; exec = [ "sleep", "70001" ]; },
  { id = "daemons"; exec = [ "sh", "-c", "(setsid sleep 70002 &); (setsid sleep 70003 &); exec sleep 70004" ]; },
  { id = "all"; type = "supervisor"; strategy = "one_for_all"; max_restarts = 100000; max_seconds = 1; children = (
      { id = "a"; exec = [ "sleep", "70005" ]; }, { id = "b"; exec = [ "sleep", "70006" ]; },
      { id = "deep"; type = "supervisor"; strategy = "rest_for_one"; max_restarts = 100000; max_seconds = 1;
        children = ( { id = "c"; exec = [ "sleep", "70007" ]; },
                     { id = "d"; exec = [ "sh", "-c", "echo ready; (setsid sleep 70008 &); exec sleep 70009" ];
                       ready = "log:ready"; } ); } ); },
  { id = "pool"; type = "dynamic_supervisor"; max_restarts = 100000; max_seconds = 1; } ); };
"""
SLEEPERS = {str(n) for n in range(70001, 70010)}
DAEMONS = {b"70002", b"70003", b"70008"}  # nobody brings these back by themselves


class Chaos:
    def __init__(self, args):
        self.coppice = os.environ.get("COPPICE", "coppice")
        self.random = random.Random(args.seed)
        self.dir = tempfile.mkdtemp(prefix="cop-chaos.")
        self.mark = os.path.basename(self.dir)
        self.env = dict(os.environ, COPPICE_RUNTIME_DIR=self.dir + "/run", COPPICE_STATE_DIR=self.dir + "/state",
                        COPPICE_CHAOS=self.mark)
        with open(self.dir + "/conf", "w", encoding="utf-8") as f:
            f.write(CONF)
        self.root = None

    def start(self):
        with open(self.dir + "/stderr", "ab") as err:
            self.root = subprocess.Popen([self.coppice, "run", self.dir + "/conf"], env=self.env,
                                         stdin=subprocess.DEVNULL, stderr=err)
        self.settle("start")

    def ours(self):
        """pid -> (state, command line) of every process with our mark, root's own children included."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as f:
                    if f"COPPICE_CHAOS={self.mark}".encode() not in f.read().split(b"\0"):
                        continue
                with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                    state = f.read().rpartition(")")[2].split()[0]
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    found[int(name)] = (state, f.read().rstrip(b"\0").split(b"\0"))
            except OSError:
                continue
        return found

    def zombies(self):
        return [p for p, (s, _) in self.descendants().items() if s == "Z"]

    def descendants(self):
        parents, states = {}, {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                        rest = f.read().rpartition(")")[2].split()
                    parents[int(name)], states[int(name)] = int(rest[1]), rest[0]
                except OSError:
                    pass
        result = {}
        for pid in parents:
            p = pid
            while p in parents and p != self.root.pid:
                p = parents[p]
            if p == self.root.pid and pid != p:
                result[pid] = (states[pid], parents[pid])
        return result

    def complaint(self):
        """What is not as it should be, or None."""
        try:
            out = subprocess.run([self.coppice, "status", "--json"], env=self.env, capture_output=True, timeout=DEADLINE,
                                 check=False)
            tree = json.loads(out.stdout)
        except (ValueError, subprocess.TimeoutExpired) as e:
            return f"status: {e}"
        if tree["state"] != "running":
            return "node is " + tree["state"]
        todo = [tree["root"]]
        while todo:
            c = todo.pop()
            if c["state"] != "running":
                return f"{c['path']} is {c['state']}"
            todo += c.get("children", [])
        sleepers = sorted(a[-1].decode() for _, a in self.ours().values() if a[0] == b"sleep")
        if sleepers != sorted(SLEEPERS):
            return f"sleepers: {sleepers}"
        if self.zombies():
            return f"zombies: {self.zombies()}"
        return None

    def settle(self, what):
        until = time.monotonic() + DEADLINE
        while True:
            wrong = self.complaint()
            if wrong is None:
                return
            if time.monotonic() > until:
                self.fail(f"after {what}: {wrong}")
            time.sleep(0.02)

    def fail(self, text):
        print(f"not ok: {text}")
        subprocess.run([self.coppice, "status"], env=self.env, check=False, timeout=DEADLINE)
        for pid, (state, argv) in self.ours().items():
            print(pid, state, b" ".join(argv).decode())
        for pid in self.ours():
            os.kill(pid, signal.SIGKILL)
        sys.exit(1)

    def kill_root(self):
        self.root.kill()
        self.root.wait()
        until = time.monotonic() + DEADLINE
        while self.ours():
            if time.monotonic() > until:
                self.fail(f"after root's death there are still {self.ours()}")
            time.sleep(0.01)
        self.start()

    @staticmethod
    def comes_back(pid):
        """Whether somebody starts it again: no daemon, and no shell, which may be about to become one."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                argv = f.read().rstrip(b"\0").split(b"\0")
        except OSError:
            return False
        return argv[0] != b"sh" and argv[-1] not in DAEMONS

    def round(self, n):
        if self.random.random() < 0.05:
            self.kill_root()
            return
        # A sorted list, so that the seed decides and not the order of /proc.
        victims = sorted(p for p in self.descendants() if self.comes_back(p))
        if not victims:  # root has just lost its children
            return
        chosen = [self.random.choice(victims) for _ in range(self.random.choice((1, 1, 1, 2, 3, 8)))]
        for pid in chosen:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.random.random() < 0.3:  # again, before it is whole
            time.sleep(self.random.random() * 0.02)
            return
        self.settle(f"round {n}, killing {chosen}")

    def shutdown(self):
        self.settle("the last round")
        self.root.terminate()
        status = self.root.wait(timeout=DEADLINE)
        if status != 0:
            self.fail(f"the node ended with {status}")
        if self.ours():
            self.fail(f"left behind: {self.ours()}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.kills} rounds", flush=True)
    chaos = Chaos(args)
    chaos.start()
    for n in range(args.kills):
        chaos.round(n)
    chaos.shutdown()
    subprocess.run(["rm", "-rf", chaos.dir], check=True)
    print("ok")


main()
