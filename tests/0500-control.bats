# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# shellcheck shell=bash disable=SC2013,SC2016,SC2154 # pids in a line; eval later; run sets stderr
#
# The control socket of a running node: hostile clients, other users, supervisors that do not answer,
# and a control process that is killed again and again.
bats_require_minimum_version 1.5.0
load helper

small_node() {
	node_conf <<-'END'
		node = "steered";
		supervisor: {
			max_restarts = 100000;
			children = (
				{ id = "a"; exec = [ "/bin/sleep", "1000" ]; },
				{ id = "app"; type = "supervisor"; max_restarts = 100000; children = (
					{ id = "db"; exec = [ "/bin/sleep", "1000" ]; },
					{ id = "in"; type = "supervisor"; children = (
						{ id = "x"; exec = [ "/bin/sleep", "1000" ]; } ); } ); },
				{ id = "pool"; type = "dynamic_supervisor"; }
			);
		};
	END
	node_start
}

client() {
	local socket=$COPPICE_RUNTIME_DIR/steered/control
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_control.py" "${SOCKET:-$socket}" "$@"
}

# The process that has the history mapped.
control_pid() {
	local pid
	# The children may come and go while we look.
	for pid in $(cat "/proc/$NODE_PID/task/$NODE_PID/children"); do
		if grep -qs coppice-history "/proc/$pid/maps"; then echo "$pid"; fi
	done
}

has_control() {
	[ -n "$(control_pid)" ]
}

paths() {
	cop status --json | "$COP_PYTHON" -c '
import json, sys
def walk(c):
    print(c["path"])
    for child in c.get("children", []): walk(child)
walk(json.load(sys.stdin)["root"])' | tr '\n' ' '
}

@test "what is no request is answered with an error" {
	small_node
	client malformed
	client truncated
	client random 1 500
	client paths
}

@test "byte at a time, half closed, pipelined: all are answered" {
	small_node
	client byte_at_a_time
	client half_closed
	client pipelined
}

@test "idle clients and half requests are closed after 5 seconds" {
	small_node
	client slow
}

@test "a crowd of idle clients is in nobody's way" {
	small_node
	client crowd
	client many_followers
}

@test "a follower that does not read is cut, one that reads misses nothing" {
	node_conf <<-'END'
		node = "steered";
		supervisor: {
			max_restarts = 1000000;
			children = (
				{ id = "crash-1-with-a-name-that-makes-its-events-long"; exec = [ "/bin/true" ]; log = "null"; },
				{ id = "crash-2-with-a-name-that-makes-its-events-long"; exec = [ "/bin/true" ]; log = "null"; },
				{ id = "crash-3-with-a-name-that-makes-its-events-long"; exec = [ "/bin/true" ]; log = "null"; }
			);
		};
	END
	node_start
	client deaf_follower
}

@test "other users get no word, whatever their number" {
	[ "$(id -u)" = 0 ] || skip "needs root"
	node_conf <<-'END'
		node = "steered";
		supervisor: { children = ( { id = "a"; exec = [ "/bin/sleep", "1000" ]; } ); };
	END
	chmod 755 "$COP_TMP"
	export COPPICE_SOCKET=$COP_TMP/open
	node_start
	assert_equal "$(stat -c %a "$COPPICE_SOCKET")" 600
	assert_equal "$(stat -c %a "$COPPICE_RUNTIME_DIR/steered")" 700
	chmod 666 "$COPPICE_SOCKET"
	SOCKET=$COPPICE_SOCKET client other_user 65534
	SOCKET=$COPPICE_SOCKET client other_user 4000000000
	SOCKET=$COPPICE_SOCKET client alive
}

@test "without descriptors control does not spin" {
	node_conf <<-'END'
		node = "steered";
		supervisor: { children = ( { id = "a"; exec = [ "/bin/sleep", "1000" ]; log = "null"; } ); };
	END
	node_start
	prlimit --nofile=30:30 --pid "$(control_pid)"
	client descriptors "$(control_pid)"
}

@test "a supervisor that is stopped hides nobody else" {
	small_node
	pid=$(child app pid)
	kill -STOP "$pid"
	assert_equal "$(paths)" "/ a app app/in app/in/x pool "
	run cop status app/db
	assert_status 1
	run cop status app/in/x
	assert_status 0
	run --separate-stderr cop signal app/db TERM
	assert_status 1
	[[ $stderr == *"does not answer"* ]]
	kill -CONT "$pid"
	wait_until "$COP_DEADLINE" eval 'test "$(paths)" = "/ a app app/db app/in app/in/x pool "'
}

@test "children of a supervisor that does not run" {
	small_node
	cop stop app
	run --separate-stderr cop start app/db
	assert_status 1
	[[ $stderr == *"its supervisor is not running"* ]]
	run cop status app/db
	assert_status 3
	run cop log app/db
	assert_status 0
	run --separate-stderr cop start app/nobody
	assert_status 4
	run cop add app -- /bin/true
	assert_status 1
	run cop add a -- /bin/true
	assert_status 1
	run cop add nobody -- /bin/true
	assert_status 4
}

@test "many children are added at once" {
	small_node
	local i pids=()
	for i in {1..20}; do
		cop add pool "id=w$i" -- /bin/sleep 1000 >/dev/null &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	assert_equal "$(paths | tr ' ' '\n' | grep -c '^pool/w')" 20
	run cop add pool id=w1 -- /bin/sleep 1000
	assert_status 1
	run cop add pool nonsense=1 -- /bin/sleep 1000
	assert_status 78
}

@test "control is killed again and again: each event is there once" {
	node_conf <<-'END'
		node = "steered";
		supervisor: {
			max_restarts = 1000000;
			children = (
				{ id = "a"; exec = [ "/bin/sleep", "0.01" ]; log = "null"; },
				{ id = "b"; exec = [ "/bin/sleep", "0.02" ]; log = "null"; }
			);
		};
	END
	node_start
	local i pid
	for i in {1..8}; do # root waits longer and longer for one that dies young
		wait_until "$COP_DEADLINE" has_control
		pid=$(control_pid)
		kill -KILL "$pid"
		assert_gone "$pid"
		[ $((i % 5)) != 0 ] || cop status >/dev/null
	done
	cop events --json --since 0 >"$COP_TMP/events"
	"$COP_PYTHON" - "$COP_TMP/events" <<-'END'
		import json, sys
		seq, state = 0, {"a": "exit", "b": "exit"}
		after = {"start": ("exit",), "ready": ("start",), "exit": ("ready", "start")}
		for line in open(sys.argv[1]):
		    e = json.loads(line)
		    assert e["seq"] == seq + 1, line
		    seq = e["seq"]
		    assert e["event"] != "lost", line
		    path = e.get("path")
		    if path in state and e["event"] in after:
		        assert state[path] in after[e["event"]], (state[path], line)
		        state[path] = e["event"]
		assert seq > 100, seq
	END
}

@test "a client whose control process dies hears it, the next one is served" {
	small_node
	"$COPPICE" events --follow --json --since 0 >"$COP_TMP/followed" 3>&- &
	local follower=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/followed"
	kill -KILL "$(control_pid)"
	cop restart a
	assert_equal "$(paths)" "/ a app app/db app/in app/in/x pool "
	node_stop
	wait "$follower"
	"$COP_PYTHON" - "$COP_TMP/followed" <<-'END'
		import json, sys
		events = [json.loads(line) for line in open(sys.argv[1])]
		assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
		assert events[-1]["event"] == "exit" and events[-1]["path"] == "/", events[-1]
	END
}

@test "a reload is all or nothing" {
	small_node
	local before
	before=$(child a pid)
	sed -i 's/"a"; exec/"b"; exec/' "$COP_TMP/node.conf"
	run cop reload --dry-run
	assert_status 0
	assert_equal "$output" "$(printf 'removed a\nadded b')"
	assert_equal "$(child a pid)" "$before"

	printf 'nonsense' >>"$COP_TMP/node.conf"
	run --separate-stderr cop reload
	assert_status 78
	assert_match "$stderr" "node.conf:[0-9]+: "
	assert_equal "$(child a pid)" "$before"

	sed -i 's/nonsense//; s/"steered"/"other"/' "$COP_TMP/node.conf"
	run --separate-stderr cop reload
	assert_status 78
	[[ $stderr == *"the name of a running node cannot change"* ]]

	sed -i 's/"other"/"steered"/' "$COP_TMP/node.conf"
	cop reload
	wait_event reload added=b removed=a changed=
	run cop status a
	assert_status 4
	assert_equal "$(child b state)" running

	sed -i 's/"b"; exec/"c"; exec/' "$COP_TMP/node.conf"
	node_kill HUP
	wait_event reload added=c removed=b
	printf 'nonsense' >>"$COP_TMP/node.conf"
	node_kill HUP
	wait_event note
	assert_match "$(cat "$COP_TMP/stderr")" "node.conf:[0-9]+: "
	assert_equal "$(child c state)" running
}

@test "a socket that cannot be opened refuses the reload" {
	small_node
	local port
	"$COP_PYTHON" -c '
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
time.sleep(1000)' >"$COP_TMP/port" 3>&- &
	local holder=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/port"
	port=$(cat "$COP_TMP/port")
	sed -i "s|\"a\"; exec|\"a\"; sockets = ( { name = \"s\"; listen = \"tcp:127.0.0.1:$port\"; } ); exec|" "$COP_TMP/node.conf"
	run --separate-stderr cop reload
	kill "$holder"
	assert_status 78
	[[ $stderr == *"tcp:127.0.0.1:$port"* ]]
	wait "$holder" || true
	cop reload
	run cop reload
	assert_equal "$output" "no changes"
}

@test "USR1 opens the socket again" {
	small_node
	rm "$COPPICE_RUNTIME_DIR/steered/control"
	node_kill USR1
	wait_until "$COP_DEADLINE" cop status >/dev/null
}

@test "shutdown by request waits for the end" {
	small_node
	cop shutdown
	node_wait
	assert_equal "$NODE_STATUS" 0
}
