#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# scripts in single quotes; variables of one test
# shellcheck disable=SC2016,SC2030,SC2031
#
# coppice task: a command under a supervisor of a node, as if it ran here.

bats_require_minimum_version 1.5.0
load helper

setup() {
	cop_setup
	node_conf <<'END'
node = "demo";
supervisor: { children = (
	{ id = "tasks"; type = "dynamic_supervisor"; max_children = 2; },
	{ id = "still"; exec = [ "/bin/sleep", "1000" ]; } ); };
END
	node_start
}

# One that runs until it is ended, whose pid is in $COP_TMP/main.
long_task() {
	rm -f "$COP_TMP/main"
	"$COPPICE" task tasks -- sh -c "echo \$\$ >'$COP_TMP/main'; exec sleep 1000" 3>&- 4>&- &
	TASK=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/main"
	MAIN=$(cat "$COP_TMP/main")
}

ended() {
	local status=0
	wait "$TASK" || status=$?
	assert_equal "$status" "$1"
	assert_gone "$MAIN"
}

tasks() {
	cop status --json | jq -r '[.. | objects | select(.path? // "" | startswith("tasks/")) | .path] | length'
}

none_left() {
	[ "$(tasks)" = 0 ]
}

@test "it has our descriptors, directory, environment and umask" {
	cd "$COP_TMP"
	umask 027
	out=$(echo in | COP_WORD='a b' "$COPPICE" task tasks -- \
		sh -c 'cat; pwd; echo "$COP_WORD"; umask; echo err >&2' 2>"$COP_TMP/err")
	assert_equal "$out" "in
$COP_TMP
a b
0027"
	assert_equal "$(cat "$COP_TMP/err")" err
}

@test "words and environment of any size and content" {
	long=$(head -c 100000 /dev/zero | tr '\0' x)
	run cop task tasks -- printf '%s|' '' 'a  b' $'c\nd' "$long"
	assert_status 0
	assert_equal "$output" "|a  b|c
d|$long|"
}

@test "it ends as the command" {
	run cop task tasks -- sh -c 'exit 7'
	assert_status 7
	run cop task tasks -- sh -c 'kill -s USR1 $$'
	assert_status $((128 + 10))
	wait_until "$COP_DEADLINE" none_left
	assert_equal "$(cop events --json --since 0 | jq -r 'select(.event == "exit" and .pid) | .reason' | tr '\n' ' ')" \
		"exit:7 signal:USR1 "
}

@test "a program that is not there, one that is none, a supervisor that is not there or is full" {
	run -127 cop task tasks -- /no/such
	assert_status 127
	assert_match "$output" "task: unable to execute /no/such: No such file"
	run -127 cop task tasks -- no-such-program
	assert_status 127
	run cop task tasks -- /etc/passwd
	assert_status 126
	run cop task nowhere -- true
	assert_status 125
	run cop task still -- true
	assert_status 125
	run cop task tasks
	assert_status 2
	run cop task -- true
	assert_status 2
	run cop task-run short
	assert_status 2
	run cop task-run 00000000000000000000000000000000
	assert_status 125
}

@test "as many as the supervisor takes" {
	long_task
	first=$TASK first_main=$MAIN
	long_task
	run cop task tasks -- true
	assert_status 125
	kill "$first" "$TASK"
	ended 143
	TASK=$first MAIN=$first_main
	ended 143
	wait_until "$COP_DEADLINE" none_left
}

@test "signals go to the command" {
	"$COPPICE" task tasks -- sh -c \
		"trap 'echo got; exit 3' USR1; echo \$\$ >'$COP_TMP/main'; while :; do sleep 0.01; done" \
		>"$COP_TMP/out" 3>&- 4>&- &
	TASK=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/main"
	MAIN=$(cat "$COP_TMP/main")
	kill -s USR1 "$TASK"
	ended 3
	assert_equal "$(cat "$COP_TMP/out")" got
}

@test "killed here, it is gone there, with what it has started" {
	"$COPPICE" task tasks -- sh -c \
		"setsid sleep 1000 & echo \$! >'$COP_TMP/other'; echo \$\$ >'$COP_TMP/main'; wait" 3>&- 4>&- &
	TASK=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/main"
	MAIN=$(cat "$COP_TMP/main")
	kill -9 "$TASK"
	ended 137
	assert_gone "$(cat "$COP_TMP/other")"
	wait_until "$COP_DEADLINE" none_left
}

@test "stopped there, it has ended here" {
	long_task
	cop stop "tasks/task-$TASK" >/dev/null
	ended 143
	long_task
	kill -9 "$(child "tasks/task-$TASK" pid)"
	ended 137
	long_task
	node_stop
	ended 143
}

@test "strangers at its socket get nothing" {
	# who comes under another name or user is turned away; who comes first with the right one is served: that is the child
	long_task
	name=$(tr '\0' ' ' <"/proc/$(child "tasks/task-$TASK" pid)/cmdline" | cut -d ' ' -f 3)
	run timeout 1 "$COPPICE" task-run "$name"
	refute [ "$status" = 0 ]
	kill -0 "$MAIN"
	kill "$TASK"
	ended 143
}

# --- coppice map --node --------------------------------------------------------------------------

@test "map: the items run in the node's tree, and their output comes in order" {
	run --separate-stderr cop map --node demo -P 2 -- sh -c 'echo "item $1"; exit $(($1 % 2))' sh {} ::: 1 2 3 4
	assert_status 2
	assert_equal "$output" "item 1
item 2
item 3
item 4"
	wait_until "$COP_DEADLINE" none_left
	assert_equal "$(cop events --json --since 0 |
		jq -r 'select(.event == "exit" and .pid) | .reason' | sort | tr '\n' ' ')" \
		"exit:1 exit:1 normal normal "
}

@test "map: a node or a supervisor that is not there, before anything is read" {
	for words in "--node nope" "--node demo --supervisor nope" "--node demo --supervisor still"; do
		# shellcheck disable=SC2086 # words
		run cop map $words -- true ::: 1 2
		assert_status 102
	done
	run cop map --supervisor tasks -- true ::: 1
	assert_status 2
}

two_run() {
	[ "$(tasks)" = 2 ] && [ -s "$COP_TMP/1" ] && [ -s "$COP_TMP/2" ]
}

is_stopped() {
	grep -q '^State:.T' "/proc/$1/status"
}

is_not_stopped() {
	grep -q '^State:.[SR]' "/proc/$1/status"
}

@test "map: stopped by TSTP, so are the commands in the node; they go on with CONT; killed, they are" {
	"$COPPICE" map --node demo -P 2 -- sh -c "echo \$\$ >'$COP_TMP/{}'; exec sleep 1000" ::: 1 2 3 3>&- 4>&- &
	TASK=$!
	wait_until "$COP_DEADLINE" two_run
	MAIN=$(cat "$COP_TMP/1")
	kill -s TSTP "$TASK"
	wait_until "$COP_DEADLINE" is_stopped "$MAIN"
	wait_until "$COP_DEADLINE" is_stopped "$(cat "$COP_TMP/2")"
	wait_until "$COP_DEADLINE" is_stopped "$TASK"
	kill -s CONT "$TASK"
	wait_until "$COP_DEADLINE" is_not_stopped "$MAIN"
	wait_until "$COP_DEADLINE" is_not_stopped "$(cat "$COP_TMP/2")"
	kill -s TSTP "$TASK"
	wait_until "$COP_DEADLINE" is_stopped "$MAIN"
	kill -9 "$TASK"
	ended 137
	assert_gone "$(cat "$COP_TMP/2")"
	wait_until "$COP_DEADLINE" none_left
}

@test "map: killed, it leaves nothing in the node" {
	"$COPPICE" map --node demo -P 2 -- sh -c "echo \$\$ >'$COP_TMP/{}'; exec sleep 1000" ::: 1 2 3 3>&- 4>&- &
	TASK=$!
	wait_until "$COP_DEADLINE" two_run
	kill -9 "$TASK"
	MAIN=$(cat "$COP_TMP/1")
	ended 137
	assert_gone "$(cat "$COP_TMP/2")"
	wait_until "$COP_DEADLINE" none_left
}
