#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
"""A JSON server that does what it is asked, also what no server should do. {"op": WORD, ...}."""
import json
import os
import sys
import time

later = {}


def say(what):
    os.write(1, json.dumps(what).encode() + b"\n")


def raw(what):
    while what:
        what = what[os.write(1, what):]


def do(ref, msg):
    op = msg.get("op") if isinstance(msg, dict) else None
    if op == "garbage":
        raw(b"Traceback (most recent call last):\n")
    elif op == "array":
        raw(b"[1]\n")
    elif op == "latin1":
        raw(b'{"reply":%d,"msg":"\xe4"}\n' % ref)
    elif op == "long":
        raw(b'{"reply":1,"msg":"' + b"x" * (2 << 20) + b'"}\n')
    elif op == "big":
        say({"reply": ref, "msg": "x" * msg["size"]})
    elif op == "unknown":
        say({"reply": 12345, "msg": 1})
    elif op == "verbless":
        say({"hello": "world"})
    elif op == "close":
        os.close(1)
    elif op == "twice":
        say({"reply": ref, "msg": 1})
        say({"reply": ref, "msg": 2})
    elif op == "exit":
        os._exit(msg.get("status", 3))
    elif op == "last":
        say({"reply": ref, "msg": "last words"})
        os._exit(0)
    elif op == "stop":
        say({"stop": msg["reason"]})
    elif op == "stall":
        time.sleep(1000)
    elif op == "never":
        pass
    elif op == "flood":
        while True:
            say({"send": msg["to"], "msg": "flood"})
    elif op == "raw":
        raw(msg["text"].encode())
        say({"reply": ref, "msg": "ok"})
    elif op == "ask":
        later["a%d" % ref] = ref
        say({"call": "a%d" % ref, "to": msg["to"], "msg": msg["msg"], "timeout": msg.get("timeout", 5000)})
    elif op == "after":
        later["after"] = ref
        say({"send_after": msg["ms"], "msg": "after"})
    elif op == "pid":
        say({"reply": ref, "msg": os.getpid()})
    else:
        say({"reply": ref, "msg": msg})


for line in sys.stdin:
    said = json.loads(line)
    if "call" in said:
        do(said["call"], said["msg"])
    elif "cast" in said:
        print("cast", json.dumps(said["cast"]), file=sys.stderr, flush=True)
        if isinstance(said["cast"], dict):
            do(0, said["cast"])
    elif "info" in said:
        print("info", json.dumps(said["info"]), file=sys.stderr, flush=True)
        if said["info"] == "after":
            say({"reply": later["after"], "msg": "it came"})
    elif "reply" in said or "error" in said:
        say({"reply": later.pop(said.get("reply", said.get("error"))), "msg": said})
