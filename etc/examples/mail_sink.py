#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""mail_sink.py DIRECTORY: a mail server that keeps what it is sent, for the examples beside it.

Listens on a free port of 127.0.0.1, writes its number to DIRECTORY/port when it is ready, and adds a
line for each message to DIRECTORY/sent: who it is for, and its subject. Speaks as much SMTP as a
well-behaved client needs. Takes 50 ms over each message, as one that is far away would.
"""

import os
import pathlib
import re
import socketserver
import sys
import time


class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())

    def message(self):
        lines = []
        while (line := self.rfile.readline()) and line.rstrip(b"\r\n") != b".":
            lines.append(line.decode(errors="replace"))
        return "".join(lines)

    def handle(self):
        to = []
        self.say("220 sink")
        while line := self.rfile.readline().decode(errors="replace").strip():
            word = line.split(maxsplit=1)[0].upper()
            if word == "RCPT":
                to += re.findall(r"<(.*?)>", line)
            if word == "DATA":
                self.say("354 go on")
                self.keep(to, self.message())
                to = []
            if word == "QUIT":
                self.say("221 bye")
                return
            self.say("250 ok" if word in ("HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP")
                     else "502 not here")

    def keep(self, to, text):
        time.sleep(0.05)
        subject = re.search(r"^Subject: *(.*?)\r?$", text, re.MULTILINE | re.IGNORECASE)
        with open(self.server.sent, "a", encoding="utf-8") as sent:
            for address in to:
                sent.write(f"{address} {subject[1] if subject else ''}\n")


class Sink(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100


def main():
    directory = pathlib.Path(sys.argv[1])
    with Sink(("127.0.0.1", 0), Session) as server:
        server.sent = directory / "sent"
        ready = directory / "port.new"
        ready.write_text(f"{server.server_address[1]}\n", encoding="ascii")
        os.rename(ready, directory / "port")
        server.serve_forever()


if __name__ == "__main__":
    main()
