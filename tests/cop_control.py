#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""A client of the control socket that follows coppice-protocol(7), and a hostile one.

usage: cop_control.py SOCKET CASE [ARG...]; status 0: the node behaved.
Each case is a function below whose name begins with case_.
"""

import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import time

DEADLINE = float(os.environ.get("COP_DEADLINE", "20"))
REQUEST, R_NODE, R_CHILD, R_EVENT, R_DEATH, R_CHANGE, R_TEXT, R_ERROR_LINE, END = range(1, 10)
STATUS, EVENTS, START, STOP, RESTART, SIGNAL, ADD, REMOVE, RELOAD, SHUTDOWN, LOG = range(1, 12)
FOLLOW, DRY_RUN, NO_WAIT = 1, 2, 4
REQUEST_MAX = 256 * 1024
path = sys.argv[1]


class Closed(Exception):
    """The node has closed the connection."""


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("=I", len(data)) + data


def frame(body):
    return struct.pack("=I", len(body)) + body


def request(verb, args=b"", flags=0, version=1):
    return frame(struct.pack("=BBBI", REQUEST, version, verb, flags) + args)


def connect():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)  # waits while the queue of the listener is full
    sock.settimeout(DEADLINE)
    return sock


class Client:
    """One connection."""

    def __init__(self, data=b""):
        self.sock = connect()
        self.buffer = b""
        if data:
            self.send(data)

    def send(self, data):
        self.sock.sendall(data)

    def fill(self, n):
        while len(self.buffer) < n:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed
            self.buffer += data

    def take(self):
        """The next frame: kind and the rest of the body."""
        self.fill(4)
        length = struct.unpack_from("=I", self.buffer)[0]
        check(0 < length <= 1024 * 1024, f"a frame of {length} bytes")
        self.fill(4 + length)
        body, self.buffer = self.buffer[4:4 + length], self.buffer[4 + length:]
        return body[0], body[1:]

    def answer(self):
        """Frames up to the end; then its status and message."""
        frames = []
        while True:
            kind, body = self.take()
            if kind == END:
                length = struct.unpack_from("=I", body, 1)[0]
                return frames, body[0], body[5:5 + length].decode()
            frames.append((kind, body))

    def expect_closed(self, seconds):
        """Waits for the end of the connection; what comes before is dropped."""
        until = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.sock], [], [], max(0, until - time.monotonic()))
            check(ready, f"the connection still stands after {seconds} s")
            try:
                if not self.sock.recv(65536):
                    return
            except ConnectionResetError:
                return

    def close(self):
        self.sock.close()


def ask(data):
    client = Client(data)
    try:
        return client.answer()
    finally:
        client.close()


def paths_of(frames):
    result = []
    for kind, body in frames:
        if kind == R_CHILD:
            length = struct.unpack_from("=I", body)[0]
            result.append(body[4:4 + length].decode())
    return result


def alive():
    """The node still answers, and soon."""
    begin = time.monotonic()
    frames, status, message = ask(request(STATUS, string("")))
    check(status == 0, message)
    check(frames[0][0] == R_NODE, "the first frame is not about the node")
    check(time.monotonic() - begin < 2, "an answer takes too long")
    return paths_of(frames)


def case_alive():
    alive()


# --- what is no request -----------------------------------------------------------------------


def case_malformed():
    """Each is answered with an error frame, or the connection is closed; the node goes on."""
    table = [
        (frame(b""), 2),                                        # zero length
        (struct.pack("=I", REQUEST_MAX + 1), 2),                # oversize
        (struct.pack("=I", 0xffffffff), 2),
        (frame(b"\1"), 2),                                      # too short for a head
        (frame(b"\0" * 7), 2),                                  # no request
        (frame(struct.pack("=BBBI", 9, 1, STATUS, 0)), 2),      # an answer
        (request(STATUS, string(""), version=0), 1),
        (request(STATUS, string(""), version=2), 1),
        (request(0), 2),
        (request(12), 2),
        (request(255), 2),
        (request(STATUS), 2),                                   # no path
        (request(STATUS, string("") + b"x"), 2),                # more than a path
        (request(STATUS, struct.pack("=I", 5) + b"ab"), 2),     # a string longer than the rest
        (request(STATUS, struct.pack("=I", 0xffffffff)), 2),
        (request(STATUS, string(b"a\0b")), 2),
        (request(STATUS, string("x" * 5000)), 2),
        (request(EVENTS), 2),
        (request(EVENTS, b"1234567"), 2),
        (request(SIGNAL, string("a")), 2),
        (request(SIGNAL, string("a") + struct.pack("=i", 0)), 2),
        (request(SIGNAL, string("a") + struct.pack("=i", -1)), 2),
        (request(SIGNAL, string("a") + struct.pack("=i", 1000)), 2),
        (request(RELOAD, b"x"), 2),
        (request(SHUTDOWN, b"x"), 2),
        (request(ADD), 2),
        (request(ADD, string("pool")), 2),
        (request(ADD, string("pool") + struct.pack("=I", 0xffffffff)), 2),
        (request(ADD, string("pool") + struct.pack("=II", 0, 1) + string(b"a\0b")), 2),
        (request(ADD, string("pool") + struct.pack("=II", 0, 0) + b"x"), 2),
    ]
    for number, (data, expected) in enumerate(table):
        _, status, message = ask(data)
        check(status == expected, f"{number}: status {status}, not {expected}: {message}")
        check(message, f"{number}: no message")
    alive()


def case_random():
    """Random frames of a seed."""
    rng = random.Random(int(sys.argv[3]))
    for _ in range(int(sys.argv[4])):
        verb = rng.choice([STATUS, EVENTS, SIGNAL, LOG, ADD, 0, 77])
        data = bytearray(request(verb, rng.randbytes(rng.randrange(40)), rng.choice([0, 1, 2, 4])))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        client = Client(bytes(data))
        if rng.random() < 0.5:
            client.sock.shutdown(socket.SHUT_WR)
        client.sock.setblocking(False)
        try:
            client.sock.recv(1000)
        except (BlockingIOError, ConnectionResetError):
            pass
        client.close()
    alive()


def case_truncated():
    """A request that breaks off, at every byte, with both ways of breaking off."""
    whole = request(STATUS, string("nobody"))
    for n in range(1, len(whole)):
        client = Client(whole[:n])
        client.close()
        client = Client(whole[:n])
        client.sock.shutdown(socket.SHUT_WR)
        _, status, _ = client.answer()
        check(status == 2, f"{n} bytes: status {status}")
        client.expect_closed(DEADLINE)
        client.close()
    alive()


def case_byte_at_a_time():
    client = Client()
    for byte in request(STATUS, string("")):
        client.send(bytes([byte]))
        time.sleep(0.001)
    frames, status, _ = client.answer()
    check(status == 0 and frames[0][0] == R_NODE, "no answer")


def case_half_closed():
    client = Client(request(STATUS, string("")))
    client.sock.shutdown(socket.SHUT_WR)
    frames, status, _ = client.answer()
    check(status == 0 and paths_of(frames), "no answer")
    client.expect_closed(DEADLINE)


def case_pipelined():
    """Ten at once are answered one after the other, in order, good and bad ones."""
    wanted = ["", "nobody", "/", "no/body", "..", "", "x" * 600, "a//b", "/etc/passwd", "../../x"]
    client = Client(b"".join(request(STATUS, string(p)) for p in wanted))
    for name in wanted:
        _, status, message = client.answer()
        check(status == (0 if name in ("", "/") else 4), f"{name}: {status} {message}")
        check(status == 0 or message.startswith(name[:100]), f"{name}: {message}")


def case_paths():
    """No name that is not a child's leads anywhere."""
    names = ["..", ".", "../..", "/etc/passwd", "a//b", "a/", "-x", "a b", "a\nb", "\x1b[2J", "%s%n", "x" * 500,
             "/".join("x" * 100), "*", "~", "a/../b"]
    for name in names:
        for verb in (STATUS, START, STOP, RESTART, REMOVE, LOG):
            _, status, message = ask(request(verb, string(name)))
            check(status == 4, f"{name!r}: verb {verb}: {status} {message}")
        _, status, _ = ask(request(SIGNAL, string(name) + struct.pack("=i", 9)))
        check(status == 4, f"{name!r}: signal: {status}")
    for verb in (START, STOP, RESTART, REMOVE):
        _, status, message = ask(request(verb, string("/")))
        check(status == 1 and "the top supervisor" in message, f"/: verb {verb}: {status} {message}")
    alive()


# --- those who take their time --------------------------------------------------------------------


def case_slow():
    """Nothing, half a request and an answer not read are closed after 5 s, not before 4."""
    begin = time.monotonic()
    idle = [Client() for _ in range(10)] + [Client(request(STATUS, string("x"))[:9]) for _ in range(10)]
    trickle = Client()
    data = request(STATUS, string("x" * 400))
    for byte in data:
        try:
            trickle.send(bytes([byte]))
        except OSError:
            break
        if time.monotonic() - begin > 4:
            break
        time.sleep(0.1)
    for client in idle:
        client.sock.settimeout(0)
        try:
            check(client.sock.recv(1) != b"", "closed before its time")
        except BlockingIOError:
            pass
    for client in idle + [trickle]:
        client.expect_closed(4)
    alive()


def case_crowd():
    """A thousand idle clients; the next who asks is answered at once."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    crowd = []
    for _ in range(1000):
        crowd.append(connect())
    begin = time.monotonic()
    alive()
    check(time.monotonic() - begin < 1, "the crowd is in the way")
    for sock in crowd:
        sock.close()


def case_many_followers():
    """Those who wait without end never take the last places."""
    followers = [Client(request(EVENTS, struct.pack("=Q", 2**64 - 1), FOLLOW)) for _ in range(60)]
    alive()
    refused = 0
    for client in followers:
        ready, _, _ = select.select([client.sock], [], [], 0)
        if ready:
            _, status, message = client.answer()
            check(status == 1 and "too many" in message, message)
            refused += 1
    check(refused == 4, f"{refused} were refused, not 4")
    for client in followers:
        client.close()
    alive()


def events_from(client, seconds, first=None):
    """Numbers of the events that come within so many seconds, which must be without a gap."""
    client.sock.settimeout(seconds)
    until = time.monotonic() + seconds
    numbers = []
    try:
        while numbers == [] or time.monotonic() < until:
            kind, body = client.take()
            check(kind == R_EVENT, f"kind {kind}")
            number = struct.unpack_from("=Q", body)[0]
            check(not numbers or number == numbers[-1] + 1, f"{number} after {numbers[-1] if numbers else 0}")
            check(numbers or first is None or number == first, f"begins with {number}")
            numbers.append(number)
    except socket.timeout:
        pass
    return numbers


def case_deaf_follower():
    """A follower that does not read is cut when it is far behind; one that reads misses nothing.
    The node must be making events all the time."""
    deaf = Client(request(EVENTS, struct.pack("=Q", 2**64 - 1), FOLLOW))
    good = Client(request(EVENTS, struct.pack("=Q", 0), FOLLOW))
    until = time.monotonic() + 3 * DEADLINE
    last = 0
    while time.monotonic() < until:
        numbers = events_from(good, 0.2, last + 1)
        last = numbers[-1] if numbers else last
        poll = select.poll()
        poll.register(deaf.sock, select.POLLRDHUP)
        if poll.poll(0):
            break
        alive()
    else:
        raise AssertionError(f"it is still fed after {last} events")
    check(last > 1000, f"it was cut after {last} events")
    deaf.expect_closed(DEADLINE)


# --- others -----------------------------------------------------------------------------------------


def case_other_user():
    """As another user: the connection is closed without a word."""
    os.setresgid(int(sys.argv[3]), int(sys.argv[3]), int(sys.argv[3]))
    os.setresuid(int(sys.argv[3]), int(sys.argv[3]), int(sys.argv[3]))
    client = Client()
    try:
        client.send(request(STATUS, string("")))
        client.take()
    except (Closed, BrokenPipeError):
        return
    raise AssertionError("it was answered")


def case_descriptors():
    """More connections than the node has descriptors: it does not spin, and serves the next."""
    pid = int(sys.argv[3])
    crowd = []
    for _ in range(100):
        crowd.append(connect())

    def cpu():
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    begin = cpu()
    time.sleep(1)  # a measurement, not a wait
    check(cpu() - begin < 0.3, f"it spins: {cpu() - begin} s of 1 s")
    for sock in crowd:
        sock.close()
    alive()


def main():
    signal.alarm(int(4 * DEADLINE))
    globals()["case_" + sys.argv[2]]()


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, Closed, OSError) as error:
        sys.exit(f"{sys.argv[2]}: {type(error).__name__}: {error}")
