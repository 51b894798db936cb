# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""coppice map beside xargs and GNU parallel: what an item costs, what --pipe costs beside cat, and
whether memory grows with the number of items. Output goes into a file, as does what they are compared with.
"""

import os
import shutil
import subprocess
import time

import peers
from lab import Failed, median
from sections import number, rotated, show, spread, times

ITEMS = 10000
ITEMS_PARALLEL = 1000   # it takes ten times as long
LINES = 1000000
GOALS = {"xargs -P2 -n1": 1.2, "parallel -j2 -k": 7}
MEMORY_ITEMS = 1000000  # --dry-run: all but the processes


def run(command, source, target):
    """Seconds, and kilobytes of the largest process of those that it waited for."""
    with open(source, "rb") as given, open(target, "wb") as taken:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdin=given, stdout=taken)
        _, status, used = os.wait4(child.pid, 0)
        took = time.perf_counter() - begin
        child.returncode = status
    if status != 0:
        raise Failed(f"{' '.join(command)}: status {status}")
    return took, used.ru_maxrss


def numbers(lab, count):
    path = lab.dir / f"numbers.{count}"
    if not path.exists():
        path.write_text("".join(f"{i}\n" for i in range(1, count + 1)))
    return path


def per_item(lab, args):
    scale = 10 if args.quick else 1
    contestants = {
        "coppice map -P2": ([peers.Coppice.program, "map", "-P2", "--", "/bin/true"], ITEMS // scale),
        "xargs -P2 -n1": (["xargs", "-P2", "-n1", "/bin/true"], ITEMS // scale),
        "parallel -j2 -k": (["parallel", "-j2", "-k", "/bin/true"], ITEMS_PARALLEL // scale),
    }
    if not shutil.which("parallel"):
        print("parallel: left out, not installed")
        del contestants["parallel -j2 -k"]
    took = {name: [] for name in contestants}
    for turn in range(args.rounds):
        for name in rotated(list(contestants), turn):
            command, count = contestants[name]
            seconds, _ = run(command, numbers(lab, count), lab.dir / "out")
            took[name].append(seconds * 1e6 / count)
    ours = median(took["coppice map -P2"])
    show(f"map: an item of /bin/true, us; {ITEMS // scale} items (parallel: {ITEMS_PARALLEL // scale})",
         ("", "median", "range", "x ours", "goal"),
         [(name, number(median(t)), spread(t), times(median(t), ours), GOALS.get(name, "-"))
          for name, t in took.items()])


def pipe(lab, args):
    source = numbers(lab, LINES)
    contestants = {
        "cat": ["cat"],
        "cat | cat": ["sh", "-c", "cat | cat"],
        "coppice map --pipe cat": [peers.Coppice.program, "map", "-P2", "--pipe", "--", "cat"],
    }
    took = {name: [] for name in contestants}
    for turn in range(4 * args.rounds):
        for name in rotated(list(contestants), turn):
            took[name].append(run(contestants[name], source, lab.dir / "out")[0] * 1e3)
    base = median(took["cat"])
    show(f"map: --pipe, {LINES} lines into a file, ms", ("", "median", "range", "x cat"),
         [(name, number(median(t)), spread(t), times(median(t), base)) for name, t in took.items()])


def memory(lab, args):
    rows = []
    for count in (MEMORY_ITEMS // 100, MEMORY_ITEMS // 10, MEMORY_ITEMS):
        seconds, kb = run([peers.Coppice.program, "map", "--dry-run", "--", "echo"], numbers(lab, count), os.devnull)
        rows.append((count, kb, number(seconds * 1e6 / count)))
    show("map: items that are not run (--dry-run)", ("items", "KB", "us an item"), rows)


def mapping(lab, args):
    if not peers.Coppice.program:
        raise Failed("no program")
    per_item(lab, args)
    pipe(lab, args)
    memory(lab, args)
