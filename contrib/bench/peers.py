# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""What is measured: Coppice, the bare floor and the other supervisors. For each, how it is told
to keep N services, what starts it, and what orders it to stop everything.

Every service is the same static program, executed directly, without a shell or a run script;
where the file to execute cannot take arguments it is a symbolic link to that program. With
`logs` each service's output goes through the supervisor's own logging; otherwise it is
inherited, except for Coppice, which is measured as it is by default, with logs, everywhere
(coppice-nolog is the same without).
"""

import os
import shutil
import signal
import time


class Peer:
    name = ""
    needs = ()              # programs
    stop_signal = signal.SIGTERM
    limit = None            # services, if there is a fixed limit

    def __init__(self, lab):
        self.lab = lab

    def missing(self):
        return [p for p in self.needs if shutil.which(p) is None]

    def start(self, services, logs=False):
        """Writes the configuration and starts the supervisor. Sets the place, the file of stamps,
        the time (ns) just before the supervisor was started, and its pid."""
        self.place = self.lab.place(self.name)
        self.stamps = self.place / "stamps"
        self.env = {"BENCH_STAMPS": str(self.stamps)}
        self.services = services
        argv = self.prepare(services, logs)
        self.started_ns = time.monotonic_ns()
        self.pid = self.lab.spawn(argv, self.place, self.env)
        self.stopped = False
        self.lab.asks.append(self.stop)

    def stop(self):
        """Orders the end, once: afterwards the pid may be anybody's."""
        if not self.stopped:
            self.stopped = True
            os.kill(self.pid, self.stop_signal)

    def prepare(self, services, logs):
        raise NotImplementedError


class Floor(Peer):
    name = "floor"
    limit = 1               # its own end leaves that service, which is killed in the end

    def prepare(self, services, logs):
        return [str(self.lab.dir / "floor"), self.lab.stamp]


class Coppice(Peer):
    name = "coppice"
    program = None          # set by run
    groups = 1              # supervisors; the services are divided among them
    log = ""

    def missing(self):
        return [] if self.program else ["coppice"]

    def children(self, first, last):
        return ",\n".join(f'{{ id = "s{i}"; exec = [ "{self.lab.stamp}" ]; {self.log} }}'
                          for i in range(first, last))

    def tree(self, services):
        if self.groups == 1:
            return self.children(0, services)
        size = services // self.groups
        return ",\n".join(f'{{ id = "g{g}"; type = "supervisor"; {self.budget}\n'
                          f'children = ({self.children(g * size, (g + 1) * size)}); }}'
                          for g in range(self.groups))

    # Hundreds of kills a minute are not an emergency here.
    budget = "max_restarts = 1000; max_seconds = 1;"

    def prepare(self, services, logs):
        conf = self.place / "bench.conf"
        conf.write_text(f'node = "bench";\nsupervisor: {{ {self.budget}\n'
                        f'children = ({self.tree(services)}); }};\n')
        self.env.update(COPPICE_RUNTIME_DIR=str(self.place / "run"),
                        COPPICE_STATE_DIR=str(self.place / "state"))
        return [self.program, "run", str(conf)]


class CoppiceNoLog(Coppice):
    name = "coppice-nolog"
    log = 'log = "null";'


class CoppiceGroups(Coppice):
    name = "coppice-10x"
    groups = 10


class Scanned(Peer):
    """Supervisors that are configured by a directory of service directories."""
    log_run = ""

    def prepare(self, services, logs):
        scan = self.place / "scan"
        for i in range(services):
            self.service(scan / f"s{i}", logs)
        return self.command(scan)

    def service(self, directory, logs):
        directory.mkdir(parents=True)
        (directory / "run").symlink_to(self.lab.stamp)
        if logs:
            (directory / "log").mkdir()
            (directory / "log" / "main").mkdir()
            run = directory / "log" / "run"
            run.write_text(f"#!/bin/sh\nexec {self.log_run}\n")
            run.chmod(0o755)

    def command(self, scan):
        raise NotImplementedError


class Runsv(Scanned):
    """One service below one runsv."""
    name = "runit"
    needs = ("runsv",)

    def command(self, scan):
        return ["runsv", str(scan / "s0")]


class Supervise(Scanned):
    name = "daemontools"
    needs = ("supervise",)

    def command(self, scan):
        return ["supervise", str(scan / "s0")]


class S6Supervise(Scanned):
    name = "s6"
    needs = ("s6-supervise",)

    def command(self, scan):
        return ["s6-supervise", str(scan / "s0")]


class S6Ready(S6Supervise):
    """Without readiness, s6 always waits a second between a death and the restart."""
    name = "s6-ready"

    def service(self, directory, logs):
        super().service(directory, logs)
        (directory / "notification-fd").write_text("3\n")
        self.env["BENCH_NOTIFY"] = "3"


class Runsvdir(Scanned):
    name = "runit"
    needs = ("runsvdir", "runsv", "svlogd")
    stop_signal = signal.SIGHUP     # TERM every runsv and leave
    limit = 999                     # of its 1,000 slots
    log_run = "svlogd ./main"

    def command(self, scan):
        return ["runsvdir", str(scan)]


class S6Svscan(Scanned):
    name = "s6"
    needs = ("s6-svscan", "s6-supervise", "s6-log")
    log_run = "s6-log n10 s1000000 ./main"

    def command(self, scan):
        # Services and loggers together.
        return ["s6-svscan", "-c", "3000", str(scan)]


class Supervisord(Peer):
    name = "supervisord"
    needs = ("supervisord",)

    def prepare(self, services, logs):
        output = str(self.place / "%(process_num)d.log") if logs else "NONE"
        conf = self.place / "supervisord.conf"
        conf.write_text(f"""[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={self.place}/pid
minfds={4 * services + 1000}
[unix_http_server]
file={self.place}/control
[supervisorctl]
serverurl=unix://{self.place}/control
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:svc]
command={self.lab.stamp}
numprocs={services}
process_name=s%(process_num)d
startsecs=1
autorestart=true
redirect_stderr=true
stdout_logfile={output}
""")
        return ["supervisord", "-c", str(conf)]


RESTART = (Coppice, CoppiceNoLog, Floor, Runsv, Supervise, S6Supervise, S6Ready, Supervisord)
TREE = (Coppice, CoppiceGroups, CoppiceNoLog, Runsvdir, S6Svscan, Supervisord)
NODE = (Coppice, CoppiceGroups, Runsvdir, S6Svscan, Supervisord)
