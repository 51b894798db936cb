#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What contrib/systemd/coppice@.service relies on: the node tells its own supervisor when it is up,
# when it goes, and that a reload is a signal.

load helper

# systemd's end of NOTIFY_SOCKET.
setup() {
	cop_setup
	export NOTIFY_SOCKET=$COP_TMP/notify
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" datagrams "$NOTIFY_SOCKET" "$COP_TMP/said" \
		</dev/null >"$COP_TMP/listener" 2>&1 3>&- 4>&- &
	LISTENER=$!
	wait_until 20 test -e "$COP_TMP/said"
}

teardown() {
	kill "$LISTENER"
	wait "$LISTENER" || true
	cop_teardown
}

said() {
	grep -qE "(^| )$1( |$)" "$COP_TMP/said"
}

@test "READY=1 when every child is started, STOPPING=1 when the node goes" {
	mkfifo "$COP_TMP/gate"
	node_conf <<-END
		supervisor: { children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; },
		  { id = "b"; ready = "fd:3";
		    exec = [ "sh", "-c", "read x <$COP_TMP/gate; echo >&3; exec sleep 1000" ]; } ); };
	END
	node_run "$COP_TMP/node.conf"
	wait_event start path=b >/dev/null
	refute said READY=1
	echo go >"$COP_TMP/gate"
	wait_until 20 said READY=1
	wait_event ready path=b >/dev/null
	refute said STOPPING=1
	node_stop
	wait_until 20 said STOPPING=1
	assert_equal "$(grep -c READY=1 "$COP_TMP/said")" 1
}

@test "a child that never becomes ready: no READY=1, and status 1" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; ready = "notify"; ready_timeout = 100; } ); };
	END
	node_run "$COP_TMP/node.conf"
	node_wait
	assert_equal "$NODE_STATUS" 1
	refute said READY=1
}

@test "children do not inherit the node's NOTIFY_SOCKET" {
	node_conf <<-END
		supervisor: { children = ( { id = "a"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	pid=$(child a pid)
	refute grep -qzxF "NOTIFY_SOCKET=$NOTIFY_SOCKET" "/proc/$pid/environ"
	node_stop
}

@test "HUP, the unit's reload, reads the file again" {
	node_conf <<-END
		supervisor: { children = ( { id = "a"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	pid=$(child a pid)
	node_conf <<-END
		supervisor: { children = ( { id = "a"; exec = [ "sleep", "1000" ]; },
		  { id = "b"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_kill HUP
	wait_event reload added=b >/dev/null
	wait_event ready path=b >/dev/null
	assert_equal "$(child a pid)" "$pid"
	node_stop
}
