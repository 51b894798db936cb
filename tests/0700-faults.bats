#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What must not stop a supervisor: failing system calls, dead helpers, stopped readers, random SIGKILLs.
# Calls are failed in the running supervisor by strace, in it alone.

bats_require_minimum_version 1.5.0
load helper

one_child() {
	node_conf <<-END
		supervisor: { max_restarts = 10000; max_seconds = 1; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; }, { id = "b"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	TOP=$(cop status --json | field root.pid)
}

# with_fault CALLS:error=E:when=N.. COMMAND...: strace holds the top supervisor while COMMAND runs.
with_fault() {
	local fault=$1 tracer
	shift
	strace -q -o "$COP_TMP/trace" -e "inject=$fault" -p "$TOP" 2>"$COP_TMP/strace" 3>&- 4>&- &
	tracer=$!
	wait_until 10 traced
	"$@"
	kill -INT $tracer
	wait $tracer || true
}

traced() {
	! grep -q '^TracerPid:[[:space:]]*0$' "/proc/$TOP/status"
}

# shellcheck disable=SC2120 # called by with_fault with an argument
# Kills a, whose number is given or asked for before, and waits until it runs again.
heal() {
	local from pid
	from=$(cop events --json --since 0 | tail -n 1 | field seq)
	pid=${1:-$(child a pid)}
	kill -KILL "$pid"
	wait_event -t 30 -s "$from" ready path=a >/dev/null
}

@test "each call of a start that fails for a while is a failed start, tried again" {
	one_child
	for fault in clone,clone3,fork,vfork:error=EAGAIN:when=1..3 clone,clone3,fork,vfork:error=ENOMEM:when=1..2 \
		pipe2:error=EMFILE:when=1..3 pipe2:error=ENFILE:when=1 epoll_ctl:error=ENOMEM:when=1..2 \
		sendmsg:error=ENOBUFS:when=1..3 write:error=ENOSPC:when=1..3 openat:error=ENFILE:when=1..4; do
		fds=$(ls "/proc/$TOP/fd" | wc -l)
		with_fault "$fault" heal "$(child a pid)"
		assert_equal "$(cop status --json | field root.pid)" "$TOP"
		wait_child a state running
		wait_until 5 test "$(ls "/proc/$TOP/fd" | wc -l)" -le "$fds"
	done
	[ "$(events_of start_failed reason=exec:EAGAIN | wc -l)" -ge 1 ]
	[ "$(events_of start_failed reason=exec:EMFILE | wc -l)" -ge 1 ]
	assert_equal "$(child b restarts)" 0
	node_stop
}

@test "no process can be made for ever: the budget decides, nothing spins" {
	node_conf <<-END
		supervisor: { max_restarts = 5; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	TOP=$(cop status --json | field root.pid)
	pid=$(child a pid)
	strace -q -o "$COP_TMP/trace" -e inject=clone,clone3,fork,vfork:error=EAGAIN -p "$TOP" \
		2>"$COP_TMP/strace" 3>&- 4>&- &
	wait_until 10 traced
	kill -KILL "$pid"
	node_wait
	assert_equal "$NODE_STATUS" 1
}

@test "log and control stopped for good: children are still restarted, and TERM still ends the node" {
	one_child
	log=$(pgrep -P "$NODE_PID" -f 'coppice: log')
	control=$(pgrep -P "$NODE_PID" -f 'coppice: control')
	kill -STOP "$log" "$control"
	for _ in 1 2 3 4 5; do
		pid=$(pgrep -P "$TOP" -o)
		kill -KILL "$pid"
		wait_until 10 replaced "$pid"
	done
	kill -CONT "$log" "$control"
	assert_equal "$(child a state)" running
	[ "$(events_of restart | wc -l)" -ge 5 ]
	node_stop
}

replaced() {
	[ ! -e "/proc/$1" ] && [ "$(pgrep -c -P "$TOP")" = 2 ]
}

@test "log and control killed: replaced, and nothing that happened is forgotten" {
	one_child
	heal
	before=$(cop events --json --since 0 | wc -l)
	kill -KILL "$(pgrep -P "$NODE_PID" -f 'coppice: log')" "$(pgrep -P "$NODE_PID" -f 'coppice: control')"
	heal
	[ "$(cop events --json --since 0 | wc -l)" -gt "$before" ]
	cop events --json --since 0 | "$COP_PYTHON" -c '
import json, sys
seqs = [json.loads(l)["seq"] for l in sys.stdin]
assert seqs == list(range(1, len(seqs) + 1)), seqs'
	node_stop
}

@test "a storm of false SIGCHLD and TERM to a supervisor changes nothing" {
	one_child
	"$COP_PYTHON" -c '
import os, signal, sys
for _ in range(20000):
    os.kill(int(sys.argv[1]), signal.SIGCHLD)
for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGPIPE):
    os.kill(int(sys.argv[1]), sig)' "$TOP"
	heal
	assert_equal "$(cop status --json | field root.pid)" "$TOP"
	node_stop
}

@test "idle means asleep: no wake-up in any process of the node" {
	one_child
	first=$(node_switches)
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		"$COP_PYTHON" -c 'import time; time.sleep(0.2)' # what is measured is that nothing happens meanwhile
		second=$(node_switches)
		[ "$first" != "$second" ] || break # settled for 0.2 s at least once
		first=$second
	done
	assert_equal "$second" "$first"
	node_stop
}

node_switches() {
	local pid
	for pid in "$NODE_PID" $(pgrep -P "$NODE_PID"); do
		grep ctxt_switches "/proc/$pid/status"
	done
}

@test "a second TERM while stopping kills at once" {
	node_conf <<-END
		supervisor: { children = ( { id = "deaf"; exec = [ "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done" ];
		    ready = "log:up"; shutdown = "infinity"; } ); };
	END
	node_start
	node_kill TERM
	wait_event -t 10 stop path=deaf >/dev/null
	node_kill TERM
	node_wait
	assert_equal "$NODE_STATUS" 0
}

@test "random SIGKILLs over the whole tree" {
	"$COP_PYTHON" "$COP_SRCDIR/tests/chaos.py" --kills "${COP_CHAOS_KILLS:-60}"
}

@test "random SIGKILLs over the whole tree, without cgroups" {
	COPPICE_NO_CGROUP=1 "$COP_PYTHON" "$COP_SRCDIR/tests/chaos.py" --kills "${COP_CHAOS_KILLS:-60}"
}

@test "with little address space there is a smaller table of logs, and everything works" {
	[ -z "${COP_SANITIZERS:-}" ] || skip "a sanitizer needs terabytes"
	node_conf <<-END
		supervisor: { children = ( { id = "a"; exec = [ "sh", "-c", "echo hello; exec sleep 1000" ]; } ); };
	END
	printf '#!/bin/sh\nulimit -v 98304\nexec "%s" "$@"\n' "$COPPICE" >"$COP_TMP/little"
	chmod +x "$COP_TMP/little"
	COPPICE=$COP_TMP/little node_start
	wait_until 10 eval 'cop log a | grep -q hello'
	node_stop
}

@test "500 children die in one instant: each is restarted once" {
	node_conf <<-END
		supervisor: { max_restarts = 1000; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; instances = 500; log = "null"; } ); };
	END
	node_start
	local top
	top=$(cop status --json | field root.pid)
	kill -STOP "$top"
	pgrep -P "$top" | xargs kill -KILL
	kill -CONT "$top"
	wait_until "$COP_DEADLINE" restarts_left_are 500
	wait_until "$COP_DEADLINE" all_running 500
	assert_equal "$(cop events --json --since 0 | grep -c '"event":"exit"')" 500
	assert_equal "$(cop events --json --since 0 | grep -c '"event":"restart"')" 500
	assert_equal "$(cop status --json | "$COP_PYTHON" -c '
import json, sys
print({c["restarts"] for c in json.load(sys.stdin)["root"]["children"]})')" "{1}"
	assert_equal "$(pgrep -c -P "$top")" 500
	node_stop
}

restarts_left_are() {
	[ "$(cop status --json | field root.restarts_left)" = "$1" ]
}

all_running() {
	[ "$(cop status --json | grep -o '"state":"running"' | wc -l)" = $(($1 + 2)) ]
}

# A zombie that a debugger has not let go of belongs to nobody else yet.
@test "a child that dies under a debugger is restarted when the debugger lets go, and nothing spins" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; }, { id = "b"; exec = [ "sleep", "1001" ]; } ); };
	END
	node_start
	local child top tracer before
	child=$(child a pid)
	top=$(cop status --json | field root.pid)
	mkfifo "$COP_TMP/hold"
	"$COP_PYTHON" -c '
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
if libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) != 0:  # PTRACE_SEIZE
    sys.exit("ptrace: errno %d" % ctypes.get_errno())
open(sys.argv[2], "w").close()
sys.stdin.read()
' "$child" "$COP_TMP/seized" <"$COP_TMP/hold" 3>&- 4>&- &
	tracer=$!
	exec 7>"$COP_TMP/hold"
	wait_until 10 eval "[ -e '$COP_TMP/seized' ] || ! kill -0 $tracer 2>/dev/null"
	[ -e "$COP_TMP/seized" ] || { exec 7>&-; node_stop; skip "no ptrace"; }
	kill -KILL "$child"
	wait_until 10 grep -q '^State:.Z' "/proc/$child/status"
	before=$(awk '{ print $14 + $15 }' "/proc/$top/stat")
	kill -KILL "$(child b pid)" # the others are looked after meanwhile
	wait_event restart cause=b >/dev/null
	wait_child b state running
	[ $(($(awk '{ print $14 + $15 }' "/proc/$top/stat") - before)) -lt 20 ]
	exec 7>&-
	wait $tracer
	wait_event restart cause=a >/dev/null
	wait_child a state running
	node_stop
}
