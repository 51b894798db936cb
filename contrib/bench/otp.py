# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""The section otp: processes that talk, ours against the BEAM's (Elixir) and against bare system
calls. Each measurement has a row for each program; a repetition is one run of it, and all rows take
turns. Everything is measured as it is scheduled by itself, and once more on one processor.
"""

import os
import pathlib
import select
import shutil
import subprocess
import time
from dataclasses import dataclass

from lab import HERE, TOP, Failed, Timeout, descendants, is_instrumented, median
from sections import number, rotated, show, spread, times

COMMON = ["otp_common.c"]
OURS = ["otp.c", "otp_talk.c", "otp_life.c", "otp_task.c", "otp_tree.c", "otp_names.c", *COMMON]
FLOOR = ["otp_floor.c", *COMMON]
CFLAGS = ["-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]
RUN_S, QUICK_S = 180, 30    # within which one run of a program must end
FREE, ONE = "free", "one processor"
BOTH = (FREE, ONE)


@dataclass
class Row:
    """What a row of a table runs: job, how often (normally, quickly), and the other arguments."""
    name: str           # the first word is the program
    job: str
    count: int
    quick: int
    how: tuple = ()


@dataclass
class Measurement:
    key: str
    title: str
    columns: dict       # key of a figure: what stands above it
    rows: list          # the first one is what the others are compared with
    passes: tuple = BOTH
    warm: bool = False  # begins with a run for nothing
    of: str = None      # shows other figures of that measurement's runs


def ours(job, count, quick, *how, name="coppice"):
    return Row(name, job, count, quick, how)


def beam(job, count, quick, *how, name="beam"):
    return Row(name, job, count, quick, how)


def floor(job, count, quick, *how):
    return Row("floor", job, count, quick, how)


def tree(kind, title, under):
    return Measurement(
        f"tree-{kind}", f"10,000 servers, {title}, ms", {"start_ms": "start", "stop_ms": "stop"},
        [ours("tree", 10000, 500, kind), beam("tree", 10000, 500, kind),
         floor("tree", 10000, 500, *under)], warm=True)


MEASUREMENTS = [
    Measurement(
        "call", "call: 64 bytes there and back, us; times that anybody slept, for each",
        {"us": "us", "sleeps": "sleeps"},
        [ours("call", 200000, 5000, "1"), beam("call", 200000, 5000, "1"),
         floor("call", 200000, 5000, "1")]),
    Measurement(
        "call-two", "call: the same, server and caller put on two processors",
        {"us": "us", "sleeps": "sleeps"},
        [ours("call", 200000, 5000, "1", "two"), floor("call", 200000, 5000, "1", "two")],
        passes=(FREE,)),
    Measurement(
        "call4", "call: 4 callers at once, thousands a second in all",
        {"k_per_s": "k/s", "sleeps": "sleeps"},
        [ours("call", 400000, 8000, "4"), beam("call", 400000, 8000, "4"),
         floor("call", 400000, 8000, "4")]),
    Measurement(
        "cast", "cast: 64 bytes, 1 sender, until all are handled, millions a second",
        {"M_per_s": "M/s", "sleeps": "sleeps"},
        [ours("cast", 2000000, 50000, "1"), beam("cast", 2000000, 50000, "1")]),
    Measurement(
        "cast4", "cast: 4 senders; raw: no GenServer, and a queue outside the heap",
        {"M_per_s": "M/s", "sleeps": "sleeps"},
        [ours("cast", 2000000, 50000, "4"), beam("cast", 2000000, 50000, "4"),
         beam("raw", 2000000, 50000, "4", name="beam, raw send")]),
    Measurement(
        "restart", "restart: from the death of a server by its own hand to its replacement's init, us",
        {"us": "median", "us_p99": "p99"},
        [ours("restart", 300, 20), beam("restart", 300, 20), floor("restart", 300, 20)]),
    Measurement(
        "restart-watched", "restart: from the kill to the new one's name, for a killer who never sleeps, us",
        {"us": "median", "us_p99": "p99"},
        [ours("restart", 300, 20, "watched"), beam("restart", 300, 20, "watched"),
         floor("restart", 300, 20, "watched")], passes=(FREE,)),
    Measurement(
        "down", "monitor: from the kill to the message that tells of it, us",
        {"us": "median", "us_p99": "p99"},
        [ours("down", 300, 20), beam("down", 300, 20), floor("down", 300, 20)]),
    Measurement(
        "spawn", "spawn: a process that ends at once, until a monitor tells of it; the spawn alone, us",
        {"us": "until the end", "alone_us": "alone"},
        [ours("spawn", 1000, 50), beam("spawn", 100000, 1000), floor("spawn", 1000, 50)]),
    Measurement(
        "task", "task: async and await; bare: fork, exit and wait in the same program, us", {"us": "us"},
        [ours("task", 3000, 50), ours("task", 3000, 50, "bare", name="coppice, bare"),
         beam("task", 100000, 1000)]),
    Measurement(
        "stream", "stream: an element, in order, ns; pooled: processes that work on many", {"ns": "ns"},
        [ours("stream", 3000000, 10000, "pooled", name="coppice, pooled"), beam("stream", 100000, 1000),
         ours("stream", 3000, 50, name="coppice, a process each")]),
    Measurement(
        "memory", "memory: kilobytes for each idle server: its Pss; what the machine uses more, kind by "
        "kind; what it has less available; what the BEAM counts", {
            "server_pss": "Pss", "server_used": "used", "server_available": "available",
            "server_counted": "counted"},
        [ours("memory", 4000, 100), beam("memory", 10000, 1000), floor("memory", 4000, 100)],
        passes=(FREE,), warm=True),
    Measurement(
        "memory-kernel", "memory: what of it is the kernel's own",
        {"server_tables": "page tables", "server_stack": "stack", "server_slab": "slab"},
        [ours("memory", 4000, 100), floor("memory", 4000, 100)], passes=(FREE,), of="memory"),
    Measurement(
        "memory-node", "memory: kilobytes in a supervisor for each child, and Pss of a node in which "
        "nothing is but one supervisor", {"growth": "a child", "node_pss": "node"},
        [ours("memory", 4000, 100), beam("memory", 10000, 1000)], passes=(FREE,), of="memory"),
    Measurement(
        "memory-supervisor", "memory: kilobytes for each idle supervisor",
        {"sup_pss": "Pss", "sup_used": "used", "sup_counted": "counted"},
        [ours("memory", 4000, 100), beam("memory", 10000, 1000)], passes=(FREE,), of="memory"),
    tree("static", "listed by one supervisor", ()),
    tree("static-split", "listed by 10 supervisors", ()),
    tree("dynamic", "added to one dynamic supervisor", ()),
    tree("dynamic-split", "added to 10 dynamic supervisors at once", ("split",)),
    Measurement(
        "big", "64 KB: a request of it, us; on the BEAM it is passed by reference", {"us": "us"},
        [ours("big", 20000, 500, "in_place", name="coppice, in place"),
         ours("big", 20000, 500, "copied", name="coppice, copied"), beam("big", 100000, 2000)]),
    Measurement(
        "big-fresh", "64 KB: the same, written anew for each request", {"us": "us"},
        [ours("big", 20000, 500, "fresh_in_place", name="coppice, in place"),
         ours("big", 20000, 500, "fresh_copied", name="coppice, copied"),
         beam("big", 20000, 500, "fresh")]),
    Measurement(
        "lookup", "Registry.lookup of a unique key, ns", {"ns": "ns"},
        [ours("lookup", 5000000, 100000), beam("lookup", 2000000, 50000)]),
    Measurement(
        "register", "Registry.register: many keys of one process, us each", {"us": "us"},
        [ours("register", 100000, 2000), beam("register", 20000, 2000)]),
    Measurement(
        "register-pair", "Registry.register and unregister of one key, us for both", {"us": "us"},
        [ours("register_pair", 100000, 2000), beam("register_pair", 100000, 2000)]),
    Measurement(
        "agent", "Agent.get and Agent.update, us", {"us": "get", "update_us": "update"},
        [ours("agent", 200000, 5000), beam("agent", 200000, 5000)]),
]


@dataclass
class Goal:
    """A figure of ours against a factor of another row's, or against a number (row None)."""
    text: str
    key: str
    figure: str
    most: float = None      # at most this times the other; or
    least: float = None     # at least
    row: str = "beam"
    passes: tuple = BOTH
    other_pass: str = None


GOALS = [
    Goal("call, at most 0.5 x the BEAM", "call", "us", most=0.5, passes=(FREE,)),
    Goal("call, at most 1.5 x the floor", "call", "us", most=1.5, row="floor", passes=(FREE,)),
    Goal("call, at most 1.25 x the futex floor", "call", "us", most=1.25, row="floor", passes=(ONE,)),
    Goal("4 callers, at least 2.5 x the BEAM", "call4", "k_per_s", least=2.5, passes=(FREE,)),
    Goal("4 callers, at least the BEAM on one processor", "call4", "k_per_s", least=1, passes=(FREE,),
         other_pass=ONE),
    Goal("cast, at least 5 x the BEAM", "cast", "M_per_s", least=5),
    Goal("cast, 4 senders, at least 12 x the BEAM", "cast4", "M_per_s", least=12),
    Goal("cast, 4 senders, at least 2 x the BEAM's raw send", "cast4", "M_per_s", least=2,
         row="beam, raw send"),
    Goal("restart, at most 1.5 x the floor", "restart", "us", most=1.5, row="floor"),
    Goal("restart, at most 1.5 x the BEAM", "restart", "us", most=1.5),
    Goal("restart, p99 at most 1 ms", "restart", "us_p99", most=1000, row=None),
    Goal("restart, watched, at most 1.5 x the BEAM", "restart-watched", "us", most=1.5, passes=(FREE,)),
    Goal("spawn and end, at most 1.2 x the floor", "spawn", "us", most=1.2, row="floor"),
    Goal("task, at most 1.2 x fork, exit, wait", "task", "us", most=1.2, row="coppice, bare"),
    Goal("pooled stream, at most 1/50 of the BEAM", "stream", "ns", most=0.02),
    Goal("idle server, at most 32 KB Pss", "memory", "server_pss", most=32, row=None, passes=(FREE,)),
    Goal("idle server, at most 90 KB used", "memory", "server_used", most=90, row=None,
         passes=(FREE,)),
    Goal("idle server, at most 90 KB less available", "memory", "server_available", most=90, row=None,
         passes=(FREE,)),
    Goal("a child, at most 1 KB in its supervisor", "memory-node", "growth", most=1, row=None,
         passes=(FREE,)),
    Goal("tree, listed, start at most 1.5 x the floor", "tree-static", "start_ms", most=1.5, row="floor"),
    Goal("tree, added, start at most 1.5 x the floor", "tree-dynamic", "start_ms", most=1.5, row="floor"),
    Goal("tree, added, stop at most the BEAM's", "tree-dynamic", "stop_ms", most=1),
    Goal("64 KB in place, at most 0.6 x the BEAM", "big", "us", most=0.6),
    Goal("lookup, at most 1/8 of the BEAM", "lookup", "ns", most=0.125),
    Goal("register, at most 1/5 of the BEAM", "register", "us", most=0.2, passes=(FREE,)),
    Goal("agent get, at most 0.5 x the BEAM", "agent", "us", most=0.5, passes=(FREE,)),
]


# --- programs ----------------------------------------------------------------------------------

def refusal():
    """Why there is nothing to be measured, or None."""
    if shutil.which("elixir") is None:
        return "elixir is not installed (Debian has it as elixir)"
    if find_library() is None:
        return "no libcoppice.so built in this tree; $COPPICE_BUILD names a build elsewhere"
    return None


def find_library():
    """In $COPPICE_BUILD, else the newest one of a build in this tree."""
    if os.environ.get("COPPICE_BUILD"):
        places = [pathlib.Path(os.environ["COPPICE_BUILD"])]
    else:
        places = [TOP, *TOP.glob("build"), *TOP.glob("build/*")]
    built = [p / ".libs" / "libcoppice.so" for p in places]
    built = [p.resolve() for p in built if p.is_file()]
    return max(built, key=lambda p: p.stat().st_mtime, default=None)


def build(lab, name, files, *flags):
    compiler = os.environ.get("CC", "cc").split()
    done = subprocess.run([*compiler, *CFLAGS, "-o", lab.dir / name, *(HERE / f for f in files), *flags],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        why = [line for line in done.stdout.splitlines() if "error" in line or "undefined" in line]
        raise Failed(f"unable to build {name}: {(why or [done.stdout])[0].strip()}")
    print(done.stdout, end="")


def prepare(lab):
    library = find_library()
    said = subprocess.run(["elixir", HERE / "beam.exs", "version"], stdout=subprocess.PIPE, text=True)
    lab.kill_all()      # what the VM leaves behind
    print(f"library: {library}\nbeam: {said.stdout.strip()}", flush=True)
    if is_instrumented(library):
        print("library: this build is instrumented; its figures mean nothing")
    # The name that the program looks for stands beside the library's full name.
    build(lab, "otp", OURS, f"-I{TOP}/src/include", str(library), f"-Wl,-rpath,{library.parent}",
          "-Wl,-z,now")      # as pkg-config --libs coppice says
    build(lab, "otp_floor", FLOOR, "-static")


def command(lab, row, where, quick):
    programs = {"coppice": [str(lab.dir / "otp")], "floor": [str(lab.dir / "otp_floor")],
                "beam": ["elixir", str(HERE / "beam.exs")]}
    pin = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if where == ONE else []
    count = row.quick if quick else row.count
    return [*pin, *programs[row.name.partition(",")[0]], row.job, str(count), *row.how]


def await_end(pid, seconds):
    """Sleeps until the process has ended, without looking in between; its exit status."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise Timeout(f"still running after {seconds} s")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(fd)


def run_once(lab, row, where, quick):
    """The figures of one run by their keys."""
    argv = command(lab, row, where, quick)
    place = lab.place(row.job)
    try:
        pid = lab.spawn(argv, place, {"HOME": str(place), "LC_ALL": "C.UTF-8"})
        status = await_end(pid, QUICK_S if quick else RUN_S)
        said = (place / "output").read_text(errors="replace").splitlines()
        if status != 0:
            raise Failed(f"status {status}: {said[-1] if said else 'no word'}")
        if row.name.startswith("coppice") and descendants(os.getpid()):
            raise Failed("left processes behind")
        return {key: float(value) for key, _, value in
                (line[1:].partition(" ") for line in said if line.startswith("@"))}
    except Failed as failed:
        raise Failed(f"{' '.join(argv)}: {failed}") from None
    finally:
        # Nothing of it may run beside the next one.
        lab.kill_all()
        shutil.rmtree(place)


# --- measurements ------------------------------------------------------------------------------

def passes_of(measurement):
    """With one processor only, that one pass says all."""
    alone = len(os.sched_getaffinity(0)) == 1
    return [p for p in measurement.passes if p == FREE or not alone]


def measure(lab, args, measurement):
    """Runs all rows in turns; their figures: (row, pass, key): values."""
    turns = [(row, where) for where in passes_of(measurement) for row in measurement.rows]
    found, lost = {}, set()
    if measurement.warm:
        run_once(lab, measurement.rows[-1], FREE, args.quick)
    for turn in range(args.rounds):
        for row, where in rotated(turns, turn):
            if (row.name, where) in lost:
                continue
            try:
                for key, value in run_once(lab, row, where, args.quick).items():
                    found.setdefault((row.name, where, key), []).append(value)
            except (Failed, OSError) as failed:
                # It would fail again, and each time may take its time.
                lost.add((row.name, where))
                print(f"{measurement.key}: {failed}", flush=True)
    return found


def table(measurement, found):
    heads = ["", *(h for title in measurement.columns.values() for h in (title, "range", "x ours"))]
    rows = []
    for where in passes_of(measurement):
        first = measurement.rows[0].name
        for row in measurement.rows:
            cells = [row.name if where == FREE else f"{row.name}, {where}"]
            for key in measurement.columns:
                values = found.get((row.name, where, key))
                own = median(found.get((first, where, key)))
                cells += ([number(median(values)), spread(values), times(median(values), own)]
                          if values else ["-"] * 3)
            rows.append(cells)
    show(f"{measurement.key}: {measurement.title}", heads, rows)


def judge(goal, where, all_found):
    """What was found, what was wanted, and whether it is so; None if it was not measured."""
    measurement = next(m for m in MEASUREMENTS if m.key == goal.key)
    found = all_found.get(goal.key, {})
    own = median(found.get((measurement.rows[0].name, where, goal.figure)))
    other = 1 if goal.row is None else median(
        found.get((goal.row, goal.other_pass or where, goal.figure)))
    if own is None or not other:
        return None
    ratio = own / other
    if goal.most is not None:
        return number(ratio), f"<= {goal.most:g}", ratio <= goal.most
    return number(ratio), f">= {goal.least:g}", ratio >= goal.least


def judge_all(all_found):
    rows = []
    for goal in GOALS:
        if goal.key not in all_found:
            continue
        for where in goal.passes:
            verdict = judge(goal, where, all_found)
            if verdict is None:
                rows.append((goal.text, where, "-", "", "not measured"))
                continue
            ratio, bound, good = verdict
            rows.append((goal.text, where, ratio, bound, "met" if good else "MISSED"))
    show("goals: ours divided by the other's figure, or by 1 where it is a number of its own",
         ("", "pass", "ratio", "goal", ""), rows)


def chosen(args):
    if not args.only:
        return MEASUREMENTS
    unknown = set(args.only) - {m.key for m in MEASUREMENTS}
    if unknown:
        raise Failed(f"no measurement {', '.join(sorted(unknown))}; there are "
                     f"{', '.join(m.key for m in MEASUREMENTS)}")
    return [m for m in MEASUREMENTS if m.key in args.only or m.of in args.only]


def otp(lab, args):
    why = refusal()
    if why:
        raise Failed(why)
    begin = time.monotonic()
    prepare(lab)
    all_found = {}
    for measurement in chosen(args):
        all_found[measurement.key] = (all_found.get(measurement.of)
                                      or measure(lab, args, measurement))
        table(measurement, all_found[measurement.key])
    judge_all(all_found)
    print(f"\nmedians of {args.rounds}, {(time.monotonic() - begin) / 60:.0f} minutes"
          f"{'; quick: the figures mean little' if args.quick else ''}")
