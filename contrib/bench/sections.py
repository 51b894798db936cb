# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""The measurements. Each takes turns among all that can be measured, several rounds, and prints
a table of medians, the range, and how many times the figure of Coppice each other figure is.
"""

import os
import subprocess
import time

import peers
from lab import Failed, activity, await_stamps, descendants, median, overhead, pss_kb

START_S = 60         # within which N services must be up
STOP_S = 60         # and gone
UP_MS = 1100        # beyond the second in which some supervisors hold a restart back
SETTLE_MS = 50
REST_S = 2          # between start and stop: supervisord takes a second to see a service as up
CALM_S = 5          # until nothing is left to be done


# --- tables ------------------------------------------------------------------------------------

def number(value):
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def spread(values):
    return f"{number(min(values))}..{number(max(values))}"


def times(value, ours):
    return f"{value / ours:.2f}" if ours else "-"


def show(title, columns, rows):
    print(f"\n{title}", flush=True)
    table = [columns, *rows]
    widths = [max(len(str(row[i])) for row in table) for i in range(len(columns))]
    for row in table:
        cells = [str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
                 for i, (cell, w) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip(), flush=True)


def contestants(kinds, lab, args):
    """Those that are wanted and installed, new for each round."""
    found = []
    for kind in kinds:
        peer = kind(lab)
        if args.only and peer.name not in args.only:
            continue
        if peer.missing():
            print(f"{peer.name}: left out, not installed: {', '.join(peer.missing())}")
        else:
            found.append(kind)
    return found


def rotated(kinds, by):
    """Another one first each round, so that none always follows the same one."""
    by %= max(len(kinds), 1)
    return kinds[by:] + kinds[:by]


# --- restart -----------------------------------------------------------------------------------

def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def kill_all(lab, running, rounds, up_ms):
    """One killer for all that run, in turns; the restart times of each in microseconds."""
    command = [str(lab.dir / "killer"), str(rounds), str(up_ms), str(SETTLE_MS),
               *(str(p.stamps) for p in running)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    took = [[] for _ in running]
    for line in lines.splitlines():
        which, ns = line.split()
        if ns != "-":
            took[int(which)].append(int(ns) / 1000)
    return took


def restart_table(title, running, took):
    ours = median(took[0]) if running and running[0].name == "coppice" else None
    rows = [(p.name, len(t), *(number(percentile(t, part)) for part in (0, 0.1, 0.5, 0.99, 1)),
             times(median(t), ours)) for p, t in zip(running, took) if t]
    rows += [(p.name, 0, "never") + ("-",) * 5 for p, t in zip(running, took) if not t]
    show(title, ("", "kills", "min", "p10", "median", "p99", "max", "x ours"), rows)


def one_service_each(kinds, lab):
    return services_each(kinds, lab, 1)


def services_each(kinds, lab, services):
    """Those that came up, all running at the same time."""
    running = []
    for kind in kinds:
        try:
            running.append(grow(lab, kind, services)[0])
        except (Failed, OSError) as failed:
            print(f"{kind.name}: {failed}", flush=True)
    return running


def restart(lab, args):
    kinds = contestants(peers.RESTART, lab, args)
    running = one_service_each(kinds, lab)
    took = kill_all(lab, running, args.kills, UP_MS)
    restart_table("restart: from SIGKILL to the replacement's first instruction, us; each service "
                  f"up {UP_MS} ms before", running, took)
    lab.end_all()

    # Without the second that some need, many more kills: for the tail. The floor stays the floor
    # however many siblings there are.
    kinds = [k for k in kinds if k in (peers.Coppice, peers.CoppiceNoLog, peers.Floor)]
    running = one_service_each(kinds, lab)
    took = kill_all(lab, running, 10 * args.kills, 0)
    restart_table("restart: the same without waiting, us", running, took)
    lab.end_all()
    running = services_each(kinds, lab, args.services)
    time.sleep(REST_S)
    took = kill_all(lab, running, 4 * args.kills, 0)
    restart_table(f"restart: the last of {args.services} services (floor: of one), us", running, took)


# --- tree --------------------------------------------------------------------------------------

def grow(lab, kind, services, logs=False):
    """Starts a supervisor of N services; returns it, and milliseconds until the last was up."""
    peer = kind(lab)
    peer.start(min(services, peer.limit or services), logs)
    last = max(await_stamps(peer.stamps, peer.services, START_S))
    return peer, (last - peer.started_ns) / 1e6


def fell(lab, peer):
    """Orders a stop; milliseconds until services and supervisor are gone, and the milliseconds
    of CPU that they all used from their start to their end."""
    order = time.monotonic_ns()
    peer.stop()
    gone, cpu = lab.await_gone(STOP_S)
    return (gone - order) / 1e6, cpu


def try_round(lab, name, measure):
    """None, with the reason printed, if it fails; nothing of it is left in either case."""
    try:
        return measure()
    except (Failed, OSError) as failed:
        print(f"{name}: {failed}", flush=True)
        return None
    finally:
        lab.end_all()


def in_turns(lab, args, kinds, measure):
    """The results of each kind by name, over all rounds."""
    results = {kind.name: [] for kind in kinds}
    for turn in range(args.rounds):
        for kind in rotated(kinds, turn):
            result = try_round(lab, kind.name, lambda: measure(kind))
            if result is not None:
                results[kind.name].append(result)
    return {name: list(zip(*r)) for name, r in results.items() if r}


def compare(title, results, columns):
    """A table with, for each column, median, range and ratio to the first row's, which is ours."""
    ours = [median(v) for v in results.get("coppice", [()] * len(columns))]
    rows = []
    for name, values in results.items():
        row = [name]
        for value, own in zip(values, ours):
            row += [number(median(value)), spread(value), times(median(value), own)]
        rows.append(row)
    show(title, ["", *(h for c in columns for h in (c, "range", "x ours"))], rows)


def tree(lab, args):
    def measure(kind):
        peer, up = grow(lab, kind, args.services)
        time.sleep(REST_S)
        used = activity([peer.pid, *descendants(peer.pid)])[1] / 1e6
        down, in_all = fell(lab, peer)
        scale = args.services / peer.services
        return up * scale, used * scale, down * scale, (in_all - used) * scale

    results = in_turns(lab, args, contestants(peers.TREE, lab, args), measure)
    compare(f"tree: {args.services} services, ms until all are up, and until all is gone; ms of CPU "
            "of all processes, services included",
            results, ("start", "its CPU", "stop", "its CPU"))


# --- memory ------------------------------------------------------------------------------------

def memory(lab, args):
    def measure(kind, services):
        peer, _ = grow(lab, kind, services, logs=True)
        time.sleep(REST_S)
        pids = overhead(peer.pid, lab.stamp)
        return pss_kb(pids) / peer.services, len(pids) / peer.services

    kinds = contestants(peers.NODE, lab, args)
    for services, some in ((args.services, kinds), (args.services // 5, kinds)):
        results = in_turns(lab, args, some, lambda kind: measure(kind, services))
        compare(f"memory: {services} services with logs, Pss of supervisors and loggers, and their "
                "processes, per service", results, ("kB", "processes"))


# --- idle --------------------------------------------------------------------------------------

def idle(lab, args):
    def measure(kind):
        peer, _ = grow(lab, kind, args.services, logs=False)
        time.sleep(CALM_S)
        pids = overhead(peer.pid, lab.stamp)
        before = activity(pids)
        time.sleep(args.seconds)
        after = activity(pids)
        return after[0] - before[0], (after[1] - before[1]) / 1e6

    results = in_turns(lab, args, contestants(peers.NODE, lab, args), measure)
    compare(f"idle: {args.services} services, nothing happens for {args.seconds:g} s: context "
            "switches and ms of CPU of all supervising processes", results, ("switches", "CPU"))


# --- status ------------------------------------------------------------------------------------

def time_command(argv, env):
    """Milliseconds from spawn to exit, output read through a pipe."""
    begin = time.monotonic_ns()
    done = subprocess.run(argv, env={**os.environ, **env}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return (time.monotonic_ns() - begin) / 1e6, done.stdout


def questions(peer):
    """How each is asked for the state of all its services."""
    if isinstance(peer, peers.Coppice):
        return {"coppice": [peer.program, "status"],
                "coppice --json": [peer.program, "status", "--json"]}
    if isinstance(peer, peers.Runsvdir):
        return {"sv status": ["sv", "status", *(str(p) for p in (peer.place / "scan").iterdir())]}
    return {"supervisorctl status": ["supervisorctl", "-c",
                                     str(peer.place / "supervisord.conf"), "status"]}


def status(lab, args):
    kinds = (peers.Coppice, peers.CoppiceGroups, peers.Runsvdir, peers.Supervisord)
    rows = []
    for kind in contestants(kinds, lab, args):
        try_round(lab, kind.name, lambda: rows.extend(ask(lab, kind, args.services)))
    ours = next((r[1] for r in rows if r[0] == "coppice"), None)
    show(f"status: of {args.services} services, ms of the whole command, 20 times",
         ("", "median", "range", "x ours"),
         [(name, number(m), s, times(m, ours)) for name, m, s in rows])


def ask(lab, kind, services):
    peer, _ = grow(lab, kind, services)
    time.sleep(REST_S)
    env = {"COPPICE_RUNTIME_DIR": str(peer.place / "run")}
    for question, argv in questions(peer).items():
        took = []
        for _ in range(20):
            ms, said = time_command(argv, env)
            # An answer that does not name the last service is no answer.
            if b"s%d" % (peer.services - 1) not in said:
                raise Failed(f"{question} said: {said[:200]!r}")
            took.append(ms)
        label = question + (" (10 supervisors)" if kind is peers.CoppiceGroups else "")
        yield label, median(took), spread(took)


ALL = {"restart": restart, "tree": tree, "memory": memory, "idle": idle, "status": status}
