#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What OTP's supervisor promises, seen from outside: order, strategies, restart types, intensity,
# escalation, shutdown, by the event stream of a real tree of real processes.

bats_require_minimum_version 1.5.0
load helper

# The order of what happened, one word group an event, without the top supervisor's own.
story() {
	cop events --json --since 0 | "$COP_PYTHON" -c '
import json, sys
first = int(sys.argv[1])
for line in sys.stdin:
    e = json.loads(line)
    if e["seq"] <= first or e["path"] == "/" and e["event"] in ("start", "ready", "exit"):
        continue
    what = e["event"]
    if what == "exit":
        what += ":" + e["reason"]
    if what == "restart":
        what += "(" + ",".join(e["children"]) + ")"
    if what == "ready":
        continue
    print(what, e["path"])
' "${1:-0}"
}

last_seq() {
	cop events --json --since 0 | tail -n 1 | field seq
}

# Kills a child's main process and waits until it runs again as another.
crash() {
	local pid
	pid=$(child "$1" pid)
	kill -KILL "$pid"
	wait_event exit path="$1" pid="$pid" >/dev/null
}

abcd() {
	node_conf <<-END
		supervisor: { strategy = "$1"; max_restarts = 10; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; },
		  { id = "b"; exec = [ "sleep", "1000" ]; },
		  { id = "c"; exec = [ "sleep", "1000" ]; },
		  { id = "d"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
}

@test "children start in order and stop in reverse, one after another" {
	abcd one_for_one
	"$COPPICE" events --json --follow --since 0 >"$COP_TMP/events" &
	follower=$!
	wait_until 5 grep -q '"path":"d"' "$COP_TMP/events"
	node_stop
	wait "$follower" || true
	assert_equal "$(grep '"event":"start"' "$COP_TMP/events" | field path | tr '\n' ' ')" "/ a b c d "
	assert_equal "$(grep -E '"event":"(stop|exit)"' "$COP_TMP/events" |
		"$COP_PYTHON" -c 'import json,sys; print(*[e["event"] + " " + e["path"] for e in map(json.loads, sys.stdin)], sep=", ")')" \
		"stop d, exit d, stop c, exit c, stop b, exit b, stop a, exit a, exit /"
}

@test "one_for_one: only the dead child comes back" {
	abcd one_for_one
	from=$(last_seq)
	crash b
	wait_event -s "$from" ready path=b >/dev/null
	assert_equal "$(story "$from")" "exit:signal:KILL b
restart(b) /
start b"
	assert_equal "$(child b restarts)" 1
	assert_equal "$(child a restarts)" 0
	node_stop
}

@test "one_for_all: the others are stopped last to first, then all start in order" {
	abcd one_for_all
	from=$(last_seq)
	crash b
	wait_event -s "$from" ready path=d >/dev/null
	assert_equal "$(story "$from")" "exit:signal:KILL b
restart(a,b,c,d) /
stop d
exit:shutdown d
stop c
exit:shutdown c
stop a
exit:shutdown a
start a
start b
start c
start d"
	node_stop
}

@test "rest_for_one: the later ones go down in reverse and come back in order" {
	abcd rest_for_one
	from=$(last_seq)
	a=$(child a pid)
	crash b
	wait_event -s "$from" ready path=d >/dev/null
	assert_equal "$(story "$from")" "exit:signal:KILL b
restart(b,c,d) /
stop d
exit:shutdown d
stop c
exit:shutdown c
start b
start c
start d"
	assert_equal "$(child a pid)" "$a"
	node_stop
}

@test "one_for_all counts children that die together once" {
	node_conf <<-END
		supervisor: { strategy = "one_for_all"; max_restarts = 1; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; }, { id = "b"; exec = [ "sleep", "1000" ]; },
		  { id = "c"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	from=$(last_seq)
	top=$(cop status --json | field root.pid)
	kill -STOP "$top"
	kill -KILL "$(pgrep -P "$top" -n)" # two at least, while nobody looks
	kill -KILL "$(pgrep -P "$top" -o)"
	kill -CONT "$top"
	wait_event -s "$from" ready path=c >/dev/null
	assert_equal "$(cop status --json | field root.restarts_left)" 0
	assert_equal "$(cop status --json | field root.state)" running
	node_stop
}

@test "restart types: permanent always, transient after a crash, temporary never" {
	node_conf <<-END
		supervisor: { max_restarts = 20; max_seconds = 60; children = (
		  { id = "perm"; exec = [ "sleep", "1000" ]; },
		  { id = "tran"; exec = [ "sleep", "1000" ]; restart = "transient"; success = ( 0, "TERM" ); },
		  { id = "temp"; exec = [ "sleep", "1000" ]; restart = "temporary"; } ); };
	END
	node_start
	from=$(last_seq)
	crash temp
	crash tran
	wait_event -s "$from" ready path=tran >/dev/null
	kill -TERM "$(child tran pid)"
	wait_event -s "$from" exit path=tran reason=normal >/dev/null
	crash perm
	wait_event -s "$from" ready path=perm >/dev/null
	assert_equal "$(story "$from")" "exit:signal:KILL temp
exit:signal:KILL tran
restart(tran) /
start tran
exit:normal tran
exit:signal:KILL perm
restart(perm) /
start perm"
	run cop status temp # the file still names it: it may be started by hand
	assert_status 3
	assert_equal "$(child temp state)" exited
	run cop status tran
	assert_status 3
	assert_equal "$(child tran state)" exited
	node_stop
}

@test "intensity: one restart too many stops the others in reverse and ends the node with 1" {
	node_conf <<-END
		supervisor: { max_restarts = 2; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; },
		  { id = "b"; exec = [ "sleep", "1000" ]; },
		  { id = "c"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	"$COPPICE" events --json --follow --since 1 >"$COP_TMP/events" &
	follower=$!
	for n in 1 2; do
		crash b
		wait_child b restarts "$n"
	done
	kill -KILL "$(child b pid)"
	node_wait
	assert_equal "$NODE_STATUS" 1
	wait "$follower" || true
	tail -n 6 "$COP_TMP/events" | field event >"$COP_TMP/last"
	assert_equal "$(grep -c '"event":"limit"' "$COP_TMP/events")" 1
	assert_equal "$(grep '"event":"exit"' "$COP_TMP/events" | field path | tail -n 3 | tr '\n' ' ')" "c a / "
}

@test "a child that cannot be restarted uses up the budget at once and without end" {
	node_conf <<-END
		supervisor: { max_restarts = 3; max_seconds = 5; children = (
		  { id = "gone"; exec = [ "$COP_TMP/prog", "1000" ]; } ); };
	END
	cp "$(command -v sleep)" "$COP_TMP/prog"
	node_start
	rm "$COP_TMP/prog"
	"$COPPICE" events --json --follow --since 1 >"$COP_TMP/events" &
	follower=$!
	wait_until 5 test -s "$COP_TMP/events"
	kill -KILL "$(child gone pid)"
	node_wait
	assert_equal "$NODE_STATUS" 1
	wait "$follower" || true
	assert_equal "$(grep '"start_failed"' "$COP_TMP/events" | field reason | sort | uniq -c | tr -s ' ')" " 3 exec:ENOENT"
}

@test "escalation: an inner supervisor gives up, its parent restarts it with a fresh budget" {
	node_conf <<-END
		supervisor: { max_restarts = 1; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; },
		  { id = "sub"; type = "supervisor"; max_restarts = 1; max_seconds = 60; children = (
		      { id = "b"; exec = [ "sleep", "1000" ]; },
		      { id = "c"; exec = [ "sleep", "1000" ]; } ); } ); };
	END
	node_start
	crash sub/b
	wait_child sub/b restarts 1
	from=$(last_seq)
	crash sub/b
	wait_event -s "$from" ready path=sub >/dev/null
	assert_equal "$(story "$from")" "exit:signal:KILL sub/b
limit sub
stop sub/c
exit:shutdown sub/c
exit:shutdown sub
restart(sub) /
start sub
start sub/b
start sub/c"
	assert_equal "$(child sub restarts_left)" 1
	assert_equal "$(cop status --json | field root.restarts_left)" 0
	node_stop
}

@test "a failed start stops those before it in reverse; nothing later is started" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; },
		  { id = "b"; exec = [ "sleep", "1000" ]; },
		  { id = "x"; exec = [ "$COP_TMP/nothing" ]; },
		  { id = "c"; exec = [ "touch", "$COP_TMP/c-was-started" ]; } ); };
	END
	node_run "$COP_TMP/node.conf"
	node_wait
	assert_equal "$NODE_STATUS" 1
	[ ! -e "$COP_TMP/c-was-started" ]
	assert_match "$(cat "$COP_TMP/stderr")" "exec:ENOENT"
}

@test "shutdown: TERM, then KILL when the time is over; brutal_kill asks nothing" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "deaf"; exec = [ "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done" ];
		    ready = "log:up"; shutdown = 200; },
		  { id = "brutal"; exec = [ "sh", "-c", "trap 'echo asked' TERM; echo up; while :; do sleep 1000; done" ];
		    ready = "log:up"; shutdown = "brutal_kill"; } ); };
	END
	node_start
	from=$(last_seq)
	cop stop deaf brutal
	assert_equal "$(events_of exit path=deaf | field reason)" killed
	assert_equal "$(events_of stop path=deaf | field how | tr '\n' ' ')" "TERM KILL "
	assert_equal "$(events_of exit path=brutal | field reason)" killed
	assert_equal "$(events_of stop path=brutal | field how)" KILL
	run ! grep -q asked <(cop log brutal -n 100)
	node_stop
}

@test "significant: any_significant ends the node with the child's exit status" {
	node_conf <<-END
		supervisor: { auto_shutdown = "any_significant"; children = (
		  { id = "side"; exec = [ "sleep", "1000" ]; },
		  { id = "main"; exec = [ "sh", "-c", "while [ ! -e $COP_TMP/go ]; do sleep 0.05; done; exit 7" ];
		    restart = "temporary"; significant = true; } ); };
	END
	node_start
	touch "$COP_TMP/go"
	node_wait
	assert_equal "$NODE_STATUS" 7
}

@test "significant: all_significant waits for the last one" {
	node_conf <<-END
		supervisor: { auto_shutdown = "all_significant"; children = (
		  { id = "one"; exec = [ "sleep", "1000" ]; restart = "temporary"; significant = true; },
		  { id = "two"; exec = [ "sleep", "1000" ]; restart = "temporary"; significant = true; } ); };
	END
	node_start
	crash one
	assert_equal "$(cop status --json | field state)" running
	kill -TERM "$(child two pid)"
	node_wait
	assert_equal "$NODE_STATUS" 143
}

@test "backoff: waits before the restart, grows, and counts each once" {
	node_conf <<-END
		supervisor: { max_restarts = 10; max_seconds = 60; children = (
		  { id = "a"; exec = [ "sleep", "1000" ]; backoff = { min = 150; max = 400; factor = 2; }; } ); };
	END
	node_start
	from=$(last_seq)
	for n in 1 2 3; do
		crash a
		wait_event -n "$n" -s "$from" ready path=a >/dev/null
	done
	cop events --json --since "$from" | "$COP_PYTHON" -c '
import json, sys, datetime
at = lambda e: datetime.datetime.fromisoformat(e["time"].replace("Z", "+00:00")).timestamp() * 1000
events = [json.loads(l) for l in sys.stdin]
died = [at(e) for e in events if e["event"] == "exit"]
back = [at(e) for e in events if e["event"] == "start"]
waits = [b - d for d, b in zip(died, back[-3:])]
assert waits[0] >= 150 and waits[1] >= 300 and waits[2] >= 400, waits
'
	assert_equal "$(cop status --json | field root.restarts_left)" 7
	cop stop a
	cop start a
	node_stop
}

@test "a dynamic supervisor: add, max_children, remove, forgets what ends" {
	node_conf <<-END
		supervisor: { children = ( { id = "pool"; type = "dynamic_supervisor"; max_children = 2; } ); };
	END
	node_start
	assert_equal "$(cop add pool id=k1 -- sleep 1000)" pool/k1
	assert_equal "$(cop add pool id=k2 restart=temporary -- sleep 1000)" pool/k2
	run cop add pool id=k3 -- sleep 1000
	assert_status 1
	assert_match "$output" max_children
	run cop add pool id=k1 -- sleep 1000
	assert_status 1
	crash pool/k1
	wait_child pool/k1 restarts 1
	crash pool/k2
	run cop status pool/k2
	assert_status 4
	cop remove pool/k1
	run cop status pool/k1
	assert_status 4
	run cop remove pool/k1
	assert_status 4
	node_stop
}

@test "a group restart also starts a child that was stopped, as in OTP" {
	abcd one_for_all
	from=$(last_seq)
	cop stop c
	assert_equal "$(child c state)" stopped
	crash a
	wait_event -s "$from" ready path=d >/dev/null
	assert_equal "$(child c state)" running
	node_stop
}

@test "a thousand restarts leak no descriptor" {
	node_conf <<-END
		supervisor: { max_restarts = 100000; max_seconds = 1; children = (
		  { id = "a"; exec = [ "true" ]; }, { id = "b"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	top=$(cop status --json | field root.pid)
	wait_until 60 restarted_more_than 20
	before=$(ls "/proc/$top/fd" | wc -l)
	wait_until 120 restarted_more_than 1000
	after=$(ls "/proc/$top/fd" | wc -l)
	[ $((after - before)) -le 4 ] && [ $((before - after)) -le 4 ] # a start under way holds a few
	node_stop
}

restarted_more_than() {
	[ "$(child a restarts)" -gt "$1" ]
}
