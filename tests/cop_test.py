#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""What the system tests need beyond a shell.

guard DIR CMD...      runs CMD as the only child of a subreaper, so that whatever CMD leaves behind,
                      alive or as a zombie, comes here, is written down and is killed. In DIR:
                      pid (of CMD), status (exit status, 128+n for a signal), left (one line a
                      process). CMD gets a time to clean up after itself: COP_GRACE seconds.
event [-n N] [-t S] [-s SEQ] TYPE [KEY=VALUE...]
                      follows `coppice events` from SEQ (0) on and prints the N-th (first) event
                      of TYPE (`any`: every) whose fields match; fails after S (10) seconds.
filter TYPE [KEY=VALUE...]   prints the matching events among those on standard input
field KEY             prints that field of every JSON value on standard input
marked ID             prints the processes that have COPPICE_TEST_ID=ID in their environment
gone [-t S] PID...    waits until these processes are gone; a zombie is not gone
datagrams SOCKET FILE receives on a datagram socket, as systemd does at NOTIFY_SOCKET, and appends
                      each message to FILE as a line; FILE exists when the socket does

A VALUE is a shell pattern; a list is compared as its elements joined by commas, true and false
as those words.
"""

import argparse
import ctypes
import fnmatch
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
POLL = 0.01


def say(text):
    print(text, file=sys.stderr)


def process_state(pid):
    """The state letter and the parent of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            rest = f.read().rpartition(")")[2].split()
        return rest[0], int(rest[1])
    except (OSError, IndexError):
        return None


def describe(pid):
    state = process_state(pid)
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
            command = f.read().replace("\0", " ").strip()
    except OSError:
        command = "?"
    return f"{pid} {state[0] if state else '-'} {command}"


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


# --- guard ---------------------------------------------------------------------------------


def put(directory, name, text):
    path = os.path.join(directory, name)
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".new", path)


def children():
    return [p for p in processes() if (process_state(p) or ("", 0))[1] == os.getpid()]


def settle(deadline):
    """Waits for what the node left; the processes that had to be waited for as zombies whose
    parent is gone count as clean, those that live on do not."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        left = children()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL)


def guard(args):
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The tests speak to the node itself; the guard outlives what is sent to the whole group.
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(sig, signal.SIG_DFL)
        os.setpgid(0, 0)
        try:
            os.execvp(args.command[0], args.command)
        except OSError as e:
            say(f"{args.command[0]}: {e}")
            os._exit(127)
    put(args.directory, "pid", f"{pid}\n")
    while True:
        ended, status = os.wait()
        if ended == pid:
            break
    left = settle(time.monotonic() + float(os.environ.get("COP_GRACE", "5")))
    put(args.directory, "left", "".join(describe(p) + "\n" for p in left))
    for p in left:
        os.kill(p, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(status)
    put(args.directory, "status", f"{status if status >= 0 else 128 - status}\n")


# --- events --------------------------------------------------------------------------------


def text_of(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(text_of(v) for v in value)
    return "null" if value is None else str(value)


def matches(event, kind, fields):
    if kind not in ("any", event.get("event")):
        return False
    for field in fields:
        key, _, pattern = field.partition("=")
        if not fnmatch.fnmatchcase(text_of(event.get(key, "")), pattern):
            return False
    return True


def lines_until(stream, deadline):
    """The complete lines of a pipe, until it ends or the deadline passes."""
    rest = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([stream], [], [], deadline - time.monotonic())
        data = os.read(stream.fileno(), 65536) if ready else b""
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def follow(seq, deadline):
    """Every event from seq on, over broken connections, as text and as an object."""
    program = [os.environ["COPPICE"], "events", "--json", "--follow", "--since"]
    while time.monotonic() < deadline:
        with subprocess.Popen(
            program + [str(seq)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as client:
            try:
                for line in lines_until(client.stdout, deadline):
                    event = json.loads(line)
                    seq = event["seq"] + 1
                    yield line.decode(), event
            finally:
                client.kill()
        time.sleep(POLL)


def wait_event(args):
    count = 0
    seen = []
    for line, event in follow(args.since, time.monotonic() + args.time):
        seen.append(line)
        if matches(event, args.kind, args.fields):
            count += 1
            if count == args.number:
                print(line)
                return 0
    wanted = " ".join([args.kind] + args.fields)
    say(f"no event no. {args.number} '{wanted}' in {args.time:g} s; the last of {len(seen)} events:")
    for line in seen[-30:]:
        say("  " + line)
    return 1


def filter_events(args):
    for line in sys.stdin:
        if line.strip() and matches(json.loads(line), args.kind, args.fields):
            print(line, end="")
    return 0


def print_field(args):
    """KEY may be a path into objects and lists: root.children.0.pid"""
    text = sys.stdin.read()
    decoder = json.JSONDecoder()
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return 0
        value, at = decoder.raw_decode(text, at)
        for key in args.key.split("."):
            value = value[int(key)] if isinstance(value, list) else value.get(key)
        print(json.dumps(value) if isinstance(value, dict) else text_of(value))


# --- processes -----------------------------------------------------------------------------


def marked(args):
    mark = f"COPPICE_TEST_ID={args.id}".encode()
    for pid in processes():
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                ours = mark in f.read().split(b"\0")
        except OSError:
            continue
        if ours and pid != os.getpid():
            print(describe(pid))
    return 0


def gone(args):
    deadline = time.monotonic() + args.time
    while True:
        left = [p for p in args.pids if process_state(p)]
        if not left:
            return 0
        if time.monotonic() > deadline:
            for p in left:
                say("still there: " + describe(p))
            return 1
        time.sleep(POLL)


def datagrams(args):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(args.socket)
    with open(args.file, "w", encoding="utf-8", buffering=1) as f:
        while True:
            f.write(sock.recv(4096).decode().replace("\n", " ") + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    p = commands.add_parser("guard")
    p.add_argument("directory")
    p.add_argument("command", nargs=argparse.REMAINDER)
    p.set_defaults(run=guard)

    p = commands.add_parser("event")
    p.add_argument("-n", dest="number", type=int, default=1)
    p.add_argument("-t", dest="time", type=float, default=float(os.environ.get("COP_DEADLINE", "10")))
    p.add_argument("-s", dest="since", type=int, default=0)
    p.add_argument("kind")
    p.add_argument("fields", nargs="*")
    p.set_defaults(run=wait_event)

    p = commands.add_parser("filter")
    p.add_argument("kind")
    p.add_argument("fields", nargs="*")
    p.set_defaults(run=filter_events)

    p = commands.add_parser("field")
    p.add_argument("key")
    p.set_defaults(run=print_field)

    p = commands.add_parser("marked")
    p.add_argument("id")
    p.set_defaults(run=marked)

    p = commands.add_parser("gone")
    p.add_argument("-t", dest="time", type=float, default=float(os.environ.get("COP_DEADLINE", "10")))
    p.add_argument("pids", type=int, nargs="+")
    p.set_defaults(run=gone)

    p = commands.add_parser("datagrams")
    p.add_argument("socket")
    p.add_argument("file")
    p.set_defaults(run=datagrams)

    args = parser.parse_args()
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
