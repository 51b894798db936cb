#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# When a start is complete: the eight ways, each in time, too late, and dead before. A sibling
# behind it shows that nothing is started before it is ready.

bats_require_minimum_version 1.5.0
load helper

setup_file() {
	WORKER=$BATS_FILE_TMPDIR/worker
	export WORKER
	"${CC:-cc}" -O1 -o "$WORKER" "$BATS_TEST_DIRNAME/helpers/worker.c" -D_GNU_SOURCE
}

# way READY ARG...: `first` becomes ready in such a way, `second` follows.
way() {
	local ready=$1 args='' a
	shift
	for a in "$@"; do args+=", \"$a\""; done
	node_conf <<-END
		supervisor: { children = (
		  { id = "first"; exec = [ "$WORKER"$args ]; ready = "$ready"; },
		  { id = "second"; exec = [ "$WORKER", "--hold" ]; } ); };
	END
	node_start
	local order
	order=$(cop events --json --since 0 | "$COP_PYTHON" -c '
import json, sys
for e in map(json.loads, sys.stdin):
    if e["path"] in ("first", "second") and e["event"] in ("start", "ready"):
        print(e["event"], e["path"], end=" ")')
	assert_equal "$order" "start first ready first start second ready second "
	node_stop
}

free_port() {
	"$COP_PYTHON" -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'
}

@test "exec" { way exec --hold; }
@test "notify" { way notify --sleep 50 --notify READY=1 --hold; }
@test "notify, said by a helper that is gone at once" { way notify --notify-by-child READY=1 --hold; }
@test "fd" { way fd:3 --write 3:not-yet --sleep 50 --ready-fd 3 --hold; }
@test "fd of a high number" { way fd:99 --ready-fd 99 --hold; }
@test "after" { way after:150 --hold; }

@test "tcp" {
	local port
	port=$(free_port)
	way "tcp:$port" --sleep 50 --listen "tcp:$port" --hold
}

@test "tcp, version 6 only" {
	local port
	port=$(free_port)
	way "tcp:$port" --listen "tcp6:$port" --hold
}

@test "unix" { way "unix:$COP_TMP/s" --sleep 50 --listen "unix:$COP_TMP/s" --hold; }
@test "unix, datagrams" { way "unix:$COP_TMP/s" --listen "dgram:$COP_TMP/s" --hold; }
@test "file" { way "file:$COP_TMP/pid" --sleep 50 --touch "$COP_TMP/pid" --hold; }
@test "file that was there and is written again" {
	echo old >"$COP_TMP/pid"
	way "file:$COP_TMP/pid" --sleep 50 --touch "$COP_TMP/pid" --hold
}
@test "log" { way "log:^listening on" --print "starting" --sleep 50 --print "listening on 80" --hold; }

# late READY: never comes; the start fails and nothing is left.
late() {
	node_conf <<-END
		supervisor: { children = (
		  { id = "w"; enabled = false; exec = [ "$WORKER", "--fork", "2", "--daemonize", "--hold" ];
		    ready = "$1"; ready_timeout = 200; } ); };
	END
	node_start
	run -1 cop start w
	assert_match "$output" "timeout"
	wait_event start_failed path=w reason=timeout
	assert_equal "$(child w pid)" null
	wait_until 5 no_workers
	node_stop
}

no_workers() {
	local all
	all=$("$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID")
	[[ $all != *"$WORKER"* ]]
}

@test "notify that never comes" { late notify; }
@test "fd that never comes" { late fd:3; }
@test "after that would come too late is refused" {
	node_conf <<-END
		supervisor: { children = ( { id = "w"; exec = [ "/bin/true" ]; ready = "after:5000"; ready_timeout = 200; } ); };
	END
	run -78 cop check "$COP_TMP/node.conf"
}
@test "tcp that never listens" { late "tcp:$(free_port)"; }
@test "unix that never listens" { late "unix:$COP_TMP/never"; }
@test "file that never appears" { late "file:$COP_TMP/never"; }
@test "file that was there before" {
	touch "$COP_TMP/there"
	late "file:$COP_TMP/there"
}
@test "log line that never comes" { late "log:never"; }

@test "dead before it was ready: the start has failed with its reason" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "three"; enabled = false; exec = [ "$WORKER", "--exit", "3" ]; ready = "notify"; },
		  { id = "zero"; enabled = false; exec = [ "$WORKER", "--exit", "0" ]; ready = "after:20000"; } ); };
	END
	node_start
	run -1 cop start three
	assert_match "$output" "exit:3"
	run -1 cop start zero
	wait_event start_failed path=three reason=exit:3
	wait_event start_failed path=zero reason=normal
	node_stop
}

@test "a failed start at the node's start ends the node" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "good"; exec = [ "$WORKER", "--hold" ]; },
		  { id = "bad"; exec = [ "$WORKER", "--hold" ]; ready = "notify"; ready_timeout = 100; } ); };
	END
	node_run "$COP_TMP/node.conf"
	node_wait
	assert_equal "$NODE_STATUS" 1
}

@test "hostile datagrams harm nobody" {
	way notify --notify '' --notify-size 65536 --notify-size 4097 --notify-garbage 1000 --notify-fds --hold
}

@test "a start can be stopped while it waits" {
	node_conf <<-END
		supervisor: { children = ( { id = "w"; enabled = false; exec = [ "$WORKER", "--hold" ]; ready = "notify"; } ); };
	END
	node_start
	cop start --no-wait w
	wait_event start path=w
	node_stop
}
