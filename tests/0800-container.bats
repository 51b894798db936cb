#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# `coppice run -- CMD`, also as process 1 of a container: what the test suites of tini and dumb-init
# check (signals, exit status, zombies, orphans, parent death), a read-only root, a stranger's uid, no
# cgroup.

bats_require_minimum_version 1.5.0
load helper

# A script that tells which signals come, and is up when it says so.
listener() {
	cat >"$COP_TMP/listener" <<-'END'
		#!/usr/bin/env python3
		import os, signal, sys, time
		out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
		def told(sig, frame):
		    os.write(out, (signal.Signals(sig).name + "\n").encode())
		for sig in range(1, 32):
		    if sig not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN,
		                   signal.SIGTTOU, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
		                   signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS):
		        signal.signal(sig, told)
		os.write(out, b"pid %d\nup\n" % os.getpid())
		while True:
		    time.sleep(1000)
	END
	chmod +x "$COP_TMP/listener"
}

said() {
	grep -qx "$1" "$COP_TMP/said" 2>/dev/null
}

@test "the exit status is the command's: 0 to 255 and 128+n" {
	for n in 0 1 2 7 42 77 127 128 200 254 255; do
		run "$COPPICE" run -- sh -c "exit $n"
		assert_status "$n"
	done
	for s in HUP INT QUIT ABRT KILL USR1 SEGV USR2 PIPE ALRM TERM; do
		run "$COPPICE" run -- sh -c "ulimit -c 0; kill -$s \$\$"
		assert_status $((128 + $(kill -l $s)))
	done
}

@test "a command that cannot be executed: 127 when it is not there, 126 otherwise, and says why" {
	run "$COPPICE" run -- "$COP_TMP/nothing"
	assert_status 127
	assert_match "$output" "nothing: unable to start: No such file"
	touch "$COP_TMP/file"
	run "$COPPICE" run -- "$COP_TMP/file"
	assert_status 126
}

@test "standard input and output are the command's" {
	run bash -c 'echo through | "$COPPICE" run -- cat'
	assert_status 0
	assert_equal "$output" through
}

@test "every signal is passed on" {
	listener
	node_run -- "$COP_TMP/listener" "$COP_TMP/said"
	wait_until 20 said up
	for s in HUP INT QUIT USR1 USR2 TERM ALRM CONT WINCH PIPE IO PWR URG; do
		node_kill "$s"
		wait_until 10 said "SIG$(kill -l "$(kill -l $s)" | sed 's/^IO$/IO/')"
	done
	kill -KILL "$(awk '/^pid/ {print $2}' "$COP_TMP/said")"
	node_wait
	assert_equal "$NODE_STATUS" 137
}

@test "a stop of the terminal stops the command for real" {
	node_run -- sleep 1000
	wait_until 10 has_sleeper
	node_kill TSTP
	wait_until 10 sleeper_state T
	wait_until 10 node_state T
	node_kill CONT
	wait_until 10 sleeper_state S
	node_kill TERM
	node_wait
	assert_equal "$NODE_STATUS" 143
}

has_sleeper() {
	SLEEPER=$("$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID" | awk '/sleep 1000$/ && !/coppice/ {print $1; exit}')
	[ -n "$SLEEPER" ]
}

sleeper_state() {
	[ "$(awk '{print $3}' "/proc/$SLEEPER/stat")" = "$1" ]
}

node_state() {
	[ "$(awk '{print $3}' "/proc/$NODE_PID/stat")" = "$1" ]
}

@test "with --restart the command is supervised and TERM is an orderly shutdown" {
	node_run --restart permanent -- sh -c "echo x >>$COP_TMP/starts; exec sleep 1000"
	wait_until 10 test -s "$COP_TMP/starts"
	wait_until 10 has_sleeper
	kill -KILL "$SLEEPER"
	wait_until 10 started_twice
	node_stop
}

started_twice() {
	[ "$(wc -l <"$COP_TMP/starts")" = 2 ]
}

@test "--restart permanent gives up with 1 when the budget is used up" {
	run "$COPPICE" run --restart permanent -- false
	assert_status 1
}

# Runs coppice as the leader of a terminal's session, as `docker run -it` does.
on_a_terminal() {
	"$COP_PYTHON" -c '
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(os.environ["COPPICE"], [os.environ["COPPICE"], "run", "--"] + sys.argv[1:])
out = b""
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    out += data
status = os.waitpid(pid, 0)[1]
sys.stdout.write(out.decode().replace("\r", ""))
sys.exit(os.waitstatus_to_exitcode(status))' "$@"
}

@test "a terminal goes to the command, with job control" {
	run on_a_terminal "$COP_PYTHON" -c 'import os, sys; print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp()); sys.exit(6)'
	assert_status 6
	assert_equal "$output" "True True"
}

@test "process 1 of a namespace: reaps orphans, ends with the command's status, leaves nothing" {
	run unshare -fp --mount-proc "$COPPICE" run -- sh -c '
		for i in 1 2 3 4 5 6 7 8; do (setsid sh -c "sleep 0.01" &); done
		n=0
		while [ $n -lt 500 ] && ps ax -o stat,args | grep -E "^Z" >/dev/null; do n=$((n + 1)); sleep 0.01; done
		[ $n -lt 500 ] && echo none || ps ax -o stat,args
		(setsid sleep 1000 &)
		exit 5'
	assert_status 5
	assert_equal "$output" none
}

@test "process 1 is coppice, and signals from outside reach the command" {
	unshare -fp --mount-proc "$COPPICE" run -- sh -c "trap 'exit 9' TERM; echo up >$COP_TMP/up; while :; do sleep 0.05; done" &
	outer=$!
	wait_until 10 test -s "$COP_TMP/up"
	kill -TERM "$(pgrep -P $outer)"
	rc=0
	wait $outer || rc=$?
	assert_equal "$rc" 9
}

@test "the rest is asked with TERM when the command ends" {
	run "$COPPICE" run -- sh -c "
		(setsid sh -c 'trap \"echo term >>$COP_TMP/rest; exit\" TERM; echo up >$COP_TMP/rest; while :; do sleep 0.05; done' &)
		while [ ! -s $COP_TMP/rest ]; do sleep 0.02; done
		exit 4"
	assert_status 4
	assert_equal "$(tr '\n' ' ' <"$COP_TMP/rest")" "up term "
}

@test "kill -9 of the init leaves nothing" {
	node_run -- sh -c '(setsid sleep 1000 &); exec sleep 1000'
	wait_until 10 has_sleeper
	node_kill KILL
	node_wait
	assert_gone "$SLEEPER"
	rm -r "${COPPICE_RUNTIME_DIR:?}"/* # the name of its socket is all that a killed root cannot take away
}

@test "a read-only root, a stranger's uid, no cgroups: the command runs all the same" {
	run unshare -fpm --mount-proc bash -c '
		mount --make-rprivate / && mount -o remount,ro,bind / 2>/dev/null || mount --bind -o ro / / || exit 99
		unset COPPICE_RUNTIME_DIR COPPICE_STATE_DIR HOME XDG_RUNTIME_DIR
		exec setpriv --reuid=4000000000 --regid=4000000000 --clear-groups "$COPPICE" run -- sh -c "id -u; exit 3"'
	assert_status 3
	assert_match "$output" 4000000000
}

@test "a node from a file as process 1 shuts down in order on TERM" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; log = "null"; },
		  { id = "b"; exec = [ "sleep", "1000" ]; log = "null"; } ); };
	END
	unshare -fp --mount-proc "$COPPICE" run "$COP_TMP/node.conf" 2>"$COP_TMP/stderr" &
	outer=$!
	wait_until 20 node_up_or_over
	kill -TERM "$(pgrep -P $outer)"
	rc=0
	wait $outer || rc=$?
	assert_equal "$rc" 0
}
