#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Reload: says what is different, touches only that, and changes nothing when the file is wrong.

bats_require_minimum_version 1.5.0
load helper

base() {
	node_conf <<-END
		node = "r";
		supervisor: { strategy = "one_for_one"; max_restarts = 50; max_seconds = 60; children = (
		  { id = "keep"; exec = [ "sleep", "1000" ]; },
		  { id = "change"; exec = [ "sleep", "${1:-1001}" ]; },
		  { id = "sub"; type = "supervisor"; children = (
		      { id = "x"; exec = [ "sleep", "1002" ]; },
		      { id = "y"; exec = [ "sleep", "${2:-1003}" ]; } ); } ${3:-} ); };
	END
}

pids() {
	for p in keep change sub sub/x sub/y; do child "$p" pid; done | tr '\n' ' '
}

@test "nothing changed: nothing is touched" {
	base
	node_start
	before=$(pids)
	run cop reload
	assert_status 0
	assert_equal "$output" "no changes"
	assert_equal "$(pids)" "$before"
	node_stop
}

@test "one changed: only that one is replaced; a nested one likewise" {
	base
	node_start
	read -r keep change sub x y <<<"$(pids)"
	base 2001 2003
	run cop reload --dry-run
	assert_status 0
	assert_equal "$output" "changed change
changed sub/y"
	assert_equal "$(pids)" "$keep $change $sub $x $y "
	run cop reload
	assert_status 0
	read -r keep2 change2 sub2 x2 y2 <<<"$(pids)"
	assert_equal "$keep2 $sub2 $x2" "$keep $sub $x"
	[ "$change2" != "$change" ] && [ "$y2" != "$y" ]
	assert_equal "$(tr '\0' ' ' <"/proc/$y2/cmdline")" "sleep 2003 "
	assert_equal "$(cop status --json | field root.restarts_left)" 50
	node_stop
}

@test "added and removed, workers and whole subtrees, in their places" {
	base
	node_start
	base 1001 1003 ', { id = "new"; exec = [ "sleep", "1004" ]; }, { id = "tree"; type = "supervisor"; children = ( { id = "n"; exec = [ "sleep", "1005" ]; } ); }'
	run cop reload --json
	assert_status 0
	assert_equal "$output" '{"added":["new","tree"],"changed":[],"removed":[]}'
	assert_equal "$(child tree/n state)" running
	base
	run cop reload
	assert_status 0
	run cop status new
	assert_status 4
	run cop status tree/n
	assert_status 4
	assert_equal "$(events_of reload | wc -l)" 2
	node_stop
}

@test "supervision alone changes without touching the process" {
	base
	node_start
	before=$(pids)
	sed -i 's/strategy = "one_for_one"; max_restarts = 50/strategy = "rest_for_one"; max_restarts = 7/; s/id = "keep";/id = "keep"; restart = "transient"; shutdown = 100;/' "$COP_TMP/node.conf"
	cop reload
	assert_equal "$(pids)" "$before"
	assert_equal "$(cop status --json | field root.strategy)" rest_for_one
	assert_equal "$(child keep restart)" transient
	from=$(cop events --json --since 0 | tail -n 1 | field seq)
	kill -KILL "$(child change pid)"
	wait_event -s "$from" restart children=change,sub >/dev/null
	wait_event -s "$from" ready path=sub >/dev/null
	node_stop
}

@test "a wrong file changes nothing and every error is told" {
	base
	node_start
	before=$(pids)
	sed -i 's/id = "keep"; exec/id = "keep"; exce/; s/id = "x";/id = "x"; nice = 99;/' "$COP_TMP/node.conf"
	run cop reload
	assert_status 78
	assert_match "$output" "node.conf:3: .*exce"
	assert_match "$output" "node.conf:6: .*nice"
	assert_equal "$(pids)" "$before"
	node_kill HUP
	wait_until 10 grep -q exce "$COP_TMP/stderr"
	assert_equal "$(pids)" "$before"
	node_stop
}

@test "several new ones, some of which cannot start: the others run, these stay known as failed" {
	base
	node_start
	base 1001 1003 ', { id = "bad"; exec = [ "/nonexistent" ]; }, { id = "good"; exec = [ "sleep", "1006" ]; }, { id = "worse"; exec = [ "/nonexistent" ]; }, { id = "fine"; exec = [ "sleep", "1007" ]; }'
	run cop reload
	assert_status 1
	assert_match "$output" "bad: start failed: exec:ENOENT"
	assert_equal "$(child good state) $(child fine state)" "running running"
	assert_equal "$(child bad state) $(child worse state)" "failed failed"
	assert_equal "$(cop status --json | field root.restarts)" 0
	node_stop
}

@test "what was removed, or ended for good, is not started by a reload" {
	base 1001 1003 ', { id = "once"; restart = "temporary"; exec = [ "sh", "-c", "echo x >>'"$COP_TMP"'/ran; exit 4" ]; }'
	node_start
	wait_child once state exited
	cop remove change
	run cop reload
	assert_equal "$output" "no changes"
	run cop status change
	assert_status 4
	assert_equal "$(child once state)" exited
	assert_equal "$(wc -l <"$COP_TMP/ran")" 1
	node_stop
}

@test "a new order is taken over without touching anything" {
	base
	node_start
	before=$(pids)
	awk '/id = "keep"/ {kept = $0; next} {print} /id = "change"/ {print kept}' "$COP_TMP/node.conf" >"$COP_TMP/new"
	cp "$COP_TMP/new" "$COP_TMP/node.conf"
	cop reload
	assert_equal "$(pids)" "$before"
	assert_equal "$(cop status | awk 'NR > 1 {print $1}' | tr '\n' ' ')" "change keep sub sub/x sub/y "
	node_stop
}

@test "HUP reloads" {
	base
	node_start
	base 2001
	node_kill HUP
	wait_event reload changed=change >/dev/null
	wait_child change state running
	assert_equal "$(tr '\0' ' ' <"/proc/$(child change pid)/cmdline")" "sleep 2001 "
	node_stop
}

@test "a HUP that comes when the control process dies is not lost" {
	base
	node_start
	local control
	control=$(pgrep -P "$NODE_PID" -f '^coppice: control')
	base 2001
	kill -STOP "$control"
	node_kill HUP
	wait_until 10 signal_taken
	kill -KILL "$control"
	wait_event reload changed=change >/dev/null
	wait_child change state running
	assert_equal "$(tr '\0' ' ' <"/proc/$(child change pid)/cmdline")" "sleep 2001 "
	assert_equal "$(cop events --json --since 0 | grep -c '"event":"reload"')" 1
	node_stop
}

# Root has read the signal.
signal_taken() {
	! grep -q '^ShdPnd:.*[13579bdf]$' "/proc/$NODE_PID/status"
}

@test "after a reload a killed supervisor comes back with the new configuration" {
	base
	node_start
	base 2001 2003
	cop reload
	from=$(cop events --json --since 0 | tail -n 1 | field seq)
	kill -KILL "$(child sub pid)"
	wait_event -s "$from" ready path=sub >/dev/null
	assert_equal "$(tr '\0' ' ' <"/proc/$(child sub/y pid)/cmdline")" "sleep 2003 "
	from=$(cop events --json --since 0 | tail -n 1 | field seq)
	kill -KILL "$(cop status --json | field root.pid)"
	wait_event -s "$from" ready path=/ >/dev/null
	wait_child change state running
	assert_equal "$(tr '\0' ' ' <"/proc/$(child change pid)/cmdline")" "sleep 2001 "
	node_stop
}

@test "listening sockets that stay are the same, new ones are opened, a busy one refuses the reload" {
	local port=$((20000 + RANDOM % 20000))
	sockets() {
		node_conf <<-END
			supervisor: { children = ( { id = "s"; exec = [ "sleep", "$1" ];
			  sockets = ( { name = "one"; listen = "unix:$COP_TMP/one"; } $2 ); } ); };
		END
	}
	sockets 1000 ""
	node_start
	inode=$(stat -c %i "$COP_TMP/one")
	sockets 1001 ", { name = \"two\"; listen = \"tcp:127.0.0.1:$port\"; }"
	cop reload
	assert_equal "$(stat -c %i "$COP_TMP/one")" "$inode"
	"$COP_PYTHON" -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)' "$port"
	# a port that somebody else has: the whole reload is refused
	"$COP_PYTHON" -c '
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
open(sys.argv[1], "w").write("%d\n" % s.getsockname()[1]); time.sleep(60)' "$COP_TMP/busy" 3>&- 4>&- &
	holder=$!
	wait_until 10 test -s "$COP_TMP/busy"
	before=$(child s pid)
	sockets 1002 ", { name = \"two\"; listen = \"tcp:127.0.0.1:$(cat "$COP_TMP/busy")\"; }"
	run cop reload
	kill $holder
	wait $holder || true
	assert_status 78
	assert_match "$output" "$(cat "$COP_TMP/busy")"
	assert_equal "$(child s pid)" "$before"
	node_stop
}

@test "a storm of reloads of alternating files ends in the last one" {
	base
	node_start
	for n in $(seq 1 30); do
		base $((2000 + n % 2))
		if [ $((n % 5)) = 0 ]; then echo "nonsense {" >>"$COP_TMP/node.conf"; fi
		node_kill HUP
		kill -KILL "$(child keep pid)" 2>/dev/null || true
	done
	base 3000
	cop reload || cop reload
	wait_child change state running
	assert_equal "$(tr '\0' ' ' <"/proc/$(child change pid)/cmdline")" "sleep 3000 "
	assert_equal "$(pgrep -c -P "$(cop status --json | field root.pid)")" 3
	node_stop
}
