# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""The laboratory: a temporary directory with the compiled helpers, processes that are started,
observed through /proc and surely ended, and the records of the services' starts.

This process is a subreaper, so whatever a supervisor leaves behind becomes a child of it: the
end of a whole tree is the moment when no child is left, and nothing survives the run.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
HELPERS = ("stamp", "floor", "killer")
RECORD = struct.Struct("QQ")
PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 15


class Failed(Exception):
    """A measurement that could not be made; its text says why."""


class Timeout(Failed):
    pass


def median(values):
    return statistics.median(values) if values else None


def find_coppice():
    """$COPPICE, else the newest program of a build in this tree, else the one on PATH."""
    if os.environ.get("COPPICE"):
        return os.environ["COPPICE"]
    built = [TOP / "coppice", *TOP.glob("build/coppice"), *TOP.glob("build/*/coppice")]
    built = [p for p in built if p.is_file() and os.access(p, os.X_OK)]
    if built:
        return str(max(built, key=lambda p: p.stat().st_mtime))
    return shutil.which("coppice")


def is_instrumented(program):
    data = pathlib.Path(program).read_bytes()
    return any(mark in data for mark in (b"__asan_init", b"__ubsan_handle", b"__tsan_init"))


def interrupt(number, frame):
    raise KeyboardInterrupt


class Lab:
    def __enter__(self):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # What asks this program to end must still end what it started.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="coppice-bench."))
        self.count = 0
        self.asks = []      # functions that ask what was started to end
        try:
            self.compile()
        except BaseException:
            shutil.rmtree(self.dir)
            raise
        return self

    def __exit__(self, *_):
        self.end_all()
        shutil.rmtree(self.dir, ignore_errors=True)

    def compile(self):
        compiler = os.environ.get("CC", "cc").split()
        for name in HELPERS:
            subprocess.run([*compiler, "-std=c17", "-D_GNU_SOURCE", "-O2", "-static", "-o",
                            self.dir / name, HERE / (name + ".c")], check=True)
        self.stamp = str(self.dir / "stamp")

    def place(self, name):
        """A new directory for one supervisor."""
        self.count += 1
        path = self.dir / f"{self.count}-{name}"
        path.mkdir()
        return path

    def spawn(self, argv, place, env):
        """Starts a supervisor: no shell, no terminal, what it says goes to a file."""
        out = os.open(place / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDWR)
        try:
            # All signals as at login: s6 and runit are told by them what to do.
            return os.posix_spawnp(
                argv[0], argv, {"PATH": os.environ["PATH"], "LC_ALL": "C", **env},
                file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1),
                              (os.POSIX_SPAWN_DUP2, out, 2)],
                setsid=True, setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGINT])
        finally:
            os.close(out)
            os.close(null)

    def await_gone(self, seconds):
        """Reaps children until there is none; the time (ns) at which the last one was gone, and
        the CPU time (ms) that they and all they had reaped themselves used in their lives."""
        deadline = time.monotonic() + seconds
        cpu = 0
        while True:
            try:
                pid, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return time.monotonic_ns(), cpu * 1000
            cpu += usage.ru_utime + usage.ru_stime if pid else 0
            if pid == 0:
                if time.monotonic() > deadline:
                    raise Timeout(f"still running after {seconds} s")
                time.sleep(0.0005)

    def end_all(self):
        """Asks every supervisor that still runs to end, so that it can clean up, then kills what
        is left below this process: first all are stopped, so that they restart nothing, then
        all are killed, until no child is left."""
        for ask in self.asks:
            ask()
        self.asks.clear()
        try:
            self.await_gone(PATIENCE_S)
        except Timeout:
            self.kill_all()

    def kill_all(self):
        while True:
            pids = descendants(os.getpid())
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        pass
            try:
                self.await_gone(1)
                return
            except Timeout:
                pass


# --- records -----------------------------------------------------------------------------------

def await_stamps(path, number, seconds):
    """Waits until that many services have started; the times (ns) of their starts."""
    deadline = time.monotonic() + seconds
    while not path.exists() or path.stat().st_size < number * RECORD.size:
        if time.monotonic() > deadline:
            have = path.stat().st_size // RECORD.size if path.exists() else 0
            raise Timeout(f"{have} of {number} services up after {seconds} s")
        time.sleep(0.001)
    return [ns for ns, _ in RECORD.iter_unpack(path.read_bytes())]


# --- /proc -------------------------------------------------------------------------------------

def descendants(top):
    """All processes below one, from one pass over /proc."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found, queue = [], [top]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def overhead(top, stamp):
    """The processes that a supervisor consists of: itself and all below but the services."""
    found = [top]
    for pid in descendants(top):
        try:
            if os.readlink(f"/proc/{pid}/exe") != stamp:
                found.append(pid)
        except OSError:
            pass
    return found


def field(text, name):
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise Failed(f"no {name} in /proc")


def pss_kb(pids):
    return sum(field(pathlib.Path(f"/proc/{p}/smaps_rollup").read_text(), "Pss") for p in pids)


def activity(pids):
    """Context switches and nanoseconds of CPU time of these processes, up to now."""
    switches = cpu = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        switches += field(status, "voluntary_ctxt_switches")
        switches += field(status, "nonvoluntary_ctxt_switches")
        cpu += int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return switches, cpu
