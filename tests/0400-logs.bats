#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Logs: what a child writes is in its directory, with records of its starts and exits; nothing is
# lost when files are rotated or the log process is killed.

load helper

setup() {
	cop_setup
	LOG=$COP_TMP/log
}

# The text of a log directory, oldest first.
all_of() {
	local file
	for file in "$1"/@*.s "$1"/current; do
		[ ! -f "$file" ] || cat "$file"
	done
}

without_records() {
	grep -v '^[0-9T:.-]*Z coppice: '
}

log_pid() {
	pgrep -P "$NODE_PID" -f '^coppice: log'
}

log_has() {
	all_of "$1" | grep -q -- "$2"
}

files_of() {
	find "$1" -name '@*.s' | wc -l
}

@test "lines are kept, between records of the start and the exit" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "temporary"; log = { file = "$LOG"; };
			  exec = [ "/bin/sh", "-c", "echo out; echo err >&2; printf unfinished; exit 3" ]; } ); };
	END
	node_start
	wait_until 10 log_has "$LOG" 'coppice: exit'
	node_stop
	sed 's/[0-9TZ:.-]* coppice: /R /; s/pid [0-9]*/pid P/; s/after .*/after T/' "$LOG/current" >"$COP_TMP/text"
	assert_equal "$(cat "$COP_TMP/text")" "$(printf '%s\n' 'R start pid P' out err unfinished 'R exit pid P exit:3 after T')"
	assert_equal "$(stat -c %a "$LOG/current")" 640
}

@test "timestamps stand at the start of every line" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "temporary"; log = { file = "$LOG"; timestamps = true; };
			  exec = [ "/bin/sh", "-c", "echo one; echo; echo three" ]; } ); };
	END
	node_start
	wait_until 10 log_has "$LOG" 'coppice: exit'
	node_stop
	refute grep -vE '^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z ' "$LOG/current"
	assert_equal "$(cut -c 29- "$LOG/current" | grep -v '^coppice: ' | tr '\n' ,)" "one,,three,"
}

@test "files are rotated between lines and the oldest are removed" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "temporary"; log = { file = "$LOG"; max_bytes = 5000; max_files = 4; };
			  exec = [ "/usr/bin/seq", "1", "20000" ]; } ); };
	END
	node_start
	wait_until 20 log_has "$LOG" 'coppice: exit'
	node_stop
	assert_equal "$(files_of "$LOG")" 4
	for file in "$LOG"/*; do
		[ "$(stat -c %s "$file")" -le 5000 ]
		assert_equal "$(tail -c 1 "$file" | od -An -c | tr -d ' ')" '\n'
	done
	all_of "$LOG" | without_records >"$COP_TMP/text"
	seq "$(head -n 1 "$COP_TMP/text")" 20000 | cmp - "$COP_TMP/text"
}

@test "no line is lost, torn or doubled when the log process is killed" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "temporary"; log = { file = "$LOG"; max_bytes = 100000; max_files = 1000; };
			  exec = [ "/bin/sh", "-c", "seq 1 100000; read x <$COP_TMP/go; seq 100001 200000" ]; } ); };
	END
	mkfifo "$COP_TMP/go"
	node_start
	for _ in 1 2 3; do
		wait_until 20 log_pid
		kill -KILL "$(log_pid)" || true
	done
	# While nobody reads, and after.
	echo >"$COP_TMP/go"
	wait_until 30 log_pid
	kill -KILL "$(log_pid)" || true
	wait_until 30 log_has "$LOG" 'coppice: exit'
	node_stop
	all_of "$LOG" | without_records >"$COP_TMP/text"
	seq 1 200000 | cmp - "$COP_TMP/text"
}

@test "a child that is killed and restarted goes on in the same log" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; log = { file = "$LOG"; };
			  exec = [ "/bin/sh", "-c", "echo here; read x <$COP_TMP/go; echo never" ]; } ); };
	END
	mkfifo "$COP_TMP/go"
	node_start
	wait_until 10 log_has "$LOG" here
	cop signal a KILL
	wait_event -n 2 start path=a
	wait_event exit path=a reason=signal:KILL
	node_stop
	assert_equal "$(grep -c 'coppice: start pid' "$LOG/current")" 2
	assert_match "$(cat "$LOG/current")" 'coppice: exit pid [0-9]+ signal:KILL after [0-9]+\.[0-9]{3} s'
	refute log_has "$LOG" never
}

@test "USR2 opens the files again" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; log = { file = "$LOG"; };
			  exec = [ "/bin/sh", "-c", "echo one; read x <$COP_TMP/go; echo two; exec tail -f /dev/null" ]; } ); };
	END
	mkfifo "$COP_TMP/go"
	node_start
	wait_until 10 log_has "$LOG" one
	mv "$LOG/current" "$LOG/mine"
	node_kill USR2
	wait_until 10 test -e "$LOG/current"
	echo >"$COP_TMP/go"
	wait_until 10 log_has "$LOG" two
	refute grep -q two "$LOG/mine"
	node_stop
}

@test "a link in the place of a file is not followed" {
	mkdir "$LOG"
	echo precious >"$COP_TMP/victim"
	ln -s "$COP_TMP/victim" "$LOG/current"
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "temporary"; log = { file = "$LOG"; }; exec = [ "/bin/echo", "a line" ]; } ); };
	END
	node_start
	wait_until 10 log_has "$LOG" 'a line'
	node_stop
	assert_equal "$(cat "$COP_TMP/victim")" precious
	assert_equal "$(find "$LOG" -type l -name 'set-aside.@*.s' | wc -l)" 1
	[ ! -L "$LOG/current" ]
}

@test "coppice log shows the last lines, and follows" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; log = { file = "$LOG"; max_bytes = 4096; max_files = 100; };
			  exec = [ "/bin/sh", "-c", "seq 1 1000; read x <$COP_TMP/go; seq 1001 2000; exec tail -f /dev/null" ]; } ); };
	END
	mkfifo "$COP_TMP/go"
	node_start
	wait_until 10 log_has "$LOG" '^1000$'
	assert_equal "$(cop log a -n 3 | tr '\n' ' ')" "998 999 1000 "
	timeout 60 "$COPPICE" log a --follow -n 1000 >"$COP_TMP/followed" 3>&- &
	follower=$!
	wait_until 10 grep -q '^1000$' "$COP_TMP/followed"
	echo >"$COP_TMP/go"
	wait_until 10 grep -q '^2000$' "$COP_TMP/followed"
	node_stop
	wait $follower
	without_records <"$COP_TMP/followed" >"$COP_TMP/text"
	seq 1 2000 | cmp - "$COP_TMP/text"
	assert_match "$(tail -n 1 "$COP_TMP/followed")" 'coppice: exit pid'
}

@test "the last words of a dead child are in its status" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "transient"; success = [ 7 ]; log = { file = "$LOG"; };
			  exec = [ "/bin/sh", "-c", "echo the reason of it all; exit 7" ]; } ); };
	END
	node_start
	wait_event exit path=a
	status_tells() { { cop status a || true; } | grep -q 'the reason of it all'; }
	wait_until 10 status_tells
	node_stop
}

@test "what is written is kept, and nothing is left, when root is killed" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; log = { file = "$LOG"; }; exec = [ "/bin/sh", "-c", "echo before; exec tail -f /dev/null" ]; } ); };
	END
	node_start
	wait_until 10 log_has "$LOG" before
	log=$(log_pid)
	node_kill KILL
	node_wait
	assert_gone "$log"
	rm "$COPPICE_RUNTIME_DIR/node/control" # which root could not do any more
	log_has "$LOG" before
}

@test "nothing is written for log = \"null\", and \"inherit\" goes where the node's output goes" {
	node_conf <<-END
		supervisor: { children = (
			{ id = "a"; restart = "transient"; log = "null"; exec = [ "/bin/echo", "swallowed" ]; },
			{ id = "b"; restart = "transient"; log = "inherit"; exec = [ "/bin/echo", "handed on" ]; } ); };
	END
	node_start
	wait_event exit path=b
	run cop log a
	assert_status 1
	node_stop
	grep -q 'handed on' "$COP_TMP/stdout"
	refute grep -rq swallowed "$COP_TMP"/stdout "$COP_TMP"/state
}

# without_descriptors PID: it can open no more than it has.
without_descriptors() {
	local n=0
	while [ -e "/proc/$1/fd/$n" ]; do n=$((n + 1)); done
	prlimit --pid "$1" --nofile="$n:"
}

@test "a log pipe that nobody has a descriptor for waits, and nothing is lost" {
	command -v prlimit >/dev/null || skip "no prlimit"
	node_conf <<-END
		supervisor: { children = (
			{ id = "first"; exec = [ "sh", "-c", "echo up; exec sleep 1000" ]; },
			{ id = "root"; enabled = false; log = { file = "$LOG/root"; };
			  exec = [ "/bin/sh", "-c", "seq 1 50000; exec sleep 1000" ]; },
			{ id = "log"; enabled = false; log = { file = "$LOG/log"; };
			  exec = [ "/bin/sh", "-c", "seq 1 50000; exec sleep 1000" ]; } ); };
	END
	mkdir "$LOG"
	node_start
	wait_until 20 log_pid
	local id pid soft
	for id in root log; do
		pid=$NODE_PID
		[ $id = root ] || pid=$(log_pid)
		soft=$(prlimit --pid "$pid" --nofile --noheadings --output SOFT | tr -d ' ')
		without_descriptors "$pid"
		cop start $id
		assert_equal "$(child $id state)" running
		[ ! -e "$LOG/$id/current" ]
		prlimit --pid "$pid" --nofile="$soft:"
		wait_until 30 log_has "$LOG/$id" '^50000$'
		all_of "$LOG/$id" | without_records >"$COP_TMP/text"
		seq 1 50000 | cmp - "$COP_TMP/text"
	done
	node_stop
}
