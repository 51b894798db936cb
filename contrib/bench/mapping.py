# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""coppice map beside xargs and GNU parallel: what an item costs, what --pipe costs beside cat, and
whether memory grows with the number of items. Output goes into a file, as does what they are compared with.
"""

import pathlib
import shutil
import subprocess
import time

import peers
from lab import Failed, median
from sections import number, rotated, show, spread, times

ITEMS = 10000
ITEMS_PARALLEL = 1000   # it takes ten times as long
LINES = 1000000
LOOK_S = 0.01
GOALS = {"xargs -P2 -n1": 1.2, "parallel -j2 -k": 7}
MEMORY_ITEMS = 10000000 # --dry-run: all but the processes


def run(command, source, target):
    """Seconds."""
    with open(source, "rb") as given, open(target, "wb") as taken:
        begin = time.perf_counter()
        status = subprocess.call(command, stdin=given, stdout=taken)
        took = time.perf_counter() - begin
    if status != 0:
        raise Failed(f"{' '.join(command)}: status {status}")
    return took


def peak_kb(pid):
    """The most memory that the only child of pid has had; 0 when there is none."""
    try:
        child = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
        for line in pathlib.Path(f"/proc/{child}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except (OSError, IndexError):
        pass
    return 0


def watch(command, source):
    """Seconds, and the peak of the runner's memory, looked at while it works."""
    peak = 0
    with open(source, "rb") as given:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdin=given, stdout=subprocess.DEVNULL)
        while child.poll() is None:
            peak = max(peak, peak_kb(child.pid))
            time.sleep(LOOK_S)
    return time.perf_counter() - begin, peak


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
            seconds = run(command, numbers(lab, count), lab.dir / "out")
            took[name].append(seconds * 1e6 / count)
    ours = median(took["coppice map -P2"])
    show(f"map: an item of /bin/true, us; {ITEMS // scale} items (parallel: {ITEMS_PARALLEL // scale})",
         ("", "median", "range", "x ours", "goal"),
         [(name, number(median(t)), spread(t), times(median(t), ours), GOALS.get(name, "-"))
          for name, t in took.items()])


def pipe(lab, args):
    source = numbers(lab, LINES)
    program = peers.Coppice.program
    pairs = {
        "a file": ("cat", f"exec {program} map -P2 --pipe -- cat"),
        "seq |": (f"seq {LINES} | cat", f"seq {LINES} | {program} map -P2 --pipe -- cat"),
        "seq | and | cat": (f"seq {LINES} | cat | cat", f"seq {LINES} | {program} map -P2 --pipe -- cat | cat"),
    }
    took = {(name, which): [] for name in pairs for which in (0, 1)}
    for turn in range(4 * args.rounds):
        for name, which in rotated(list(took), turn):
            took[name, which].append(run(["sh", "-c", pairs[name][which]], source, "/dev/null") * 1e3)
    show(f"map: {LINES} lines through --pipe -- cat, beside cat alone, ms; to /dev/null",
         ("", "cat", "coppice map", "range", "x cat"),
         [(name, number(median(took[name, 0])), number(median(took[name, 1])), spread(took[name, 1]),
           times(median(took[name, 1]), median(took[name, 0]))) for name in pairs])


def memory(lab, args):
    rows = []
    for count in (MEMORY_ITEMS // 100, MEMORY_ITEMS // 10, MEMORY_ITEMS // (10 if args.quick else 1)):
        seconds, kb = watch([peers.Coppice.program, "map", "--dry-run", "--", "echo"], numbers(lab, count))
        rows.append((count, kb, number(seconds * 1e6 / count)))
    show("map: items that are not run (--dry-run)", ("items", "KB", "us an item"), rows)


def mapping(lab, args):
    if not peers.Coppice.program:
        raise Failed("no program")
    per_item(lab, args)
    pipe(lab, args)
    memory(lab, args)
