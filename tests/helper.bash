# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# shellcheck shell=bash disable=SC2119,SC2120 # optional arguments
#
# The vocabulary of the system tests. A file begins with `load helper`; every test then has a
# private directory $COP_TMP with private runtime and state directories, and after it nothing
# may be left: no process, no socket, no file in the runtime directory.
#
#	node_conf <<END ... END      writes the configuration $COP_TMP/node.conf
#	node_start [OPTION...]       runs it and waits until the node is running
#	node_run ARG...              the same with `coppice run ARG...` given in full, without waiting
#	node_wait [SECONDS]          waits for the node's end; its exit status is in $NODE_STATUS
#	node_stop                    asks it to end (TERM), waits, and expects status 0
#	node_kill SIGNAL             sends a signal to the node's root process ($NODE_PID)
#	cop ARG...                   the program under test, talking to this node
#	wait_event [-n N] [-t S] [-s SEQ] TYPE [KEY=PATTERN...]    waits for and prints an event
#	events_of TYPE [KEY=PATTERN...]     prints what is recorded, without waiting
#	field KEY                    of the JSON on standard input; KEY may be a path: root.pid
#	child PATH KEY               one field of a child's status
#	wait_child PATH KEY PATTERN [SECONDS]    waits until that field has such a value
#	wait_until SECONDS COMMAND...       repeats a command until it succeeds
#	assert_gone PID...           waits until processes are gone, zombies included
#	assert_equal ACTUAL EXPECTED        and assert_match TEXT REGEX, assert_status N (after run)
#	refute COMMAND...            expects that it fails (bats overlooks a failing `! COMMAND`)
#
# Every wait has a deadline, $COP_DEADLINE seconds if nothing else is said.

: "${COP_SRCDIR:=$(cd "$BATS_TEST_DIRNAME/.." && pwd)}"
: "${COP_BUILDDIR:=$COP_SRCDIR/build}"
: "${COPPICE:=$COP_BUILDDIR/coppice}"
: "${COP_DEADLINE:=20}"
export COP_SRCDIR COP_BUILDDIR COPPICE COP_DEADLINE
# Not the shim of a version manager, which takes longer to start than the test takes to run.
COP_PYTHON=$(PATH=/usr/bin:/bin:$PATH command -v python3)

setup() { cop_setup; }
teardown() { cop_teardown; }

# --- before and after ----------------------------------------------------------------------

cop_setup() {
	# A short name: a socket's path has room for 107 bytes.
	COP_TMP=$(mktemp -d /tmp/cop.XXXXXX)
	COPPICE_TEST_ID=${COP_TMP##*.}.$$
	COPPICE_RUNTIME_DIR=$COP_TMP/run
	COPPICE_STATE_DIR=$COP_TMP/state
	export COP_TMP COPPICE_TEST_ID COPPICE_RUNTIME_DIR COPPICE_STATE_DIR
	unset COPPICE_SOCKET NOTIFY_SOCKET LISTEN_FDS LISTEN_PID WATCHDOG_USEC
	mkdir -m 700 "$COPPICE_RUNTIME_DIR" "$COPPICE_STATE_DIR"
	NODE_PID='' NODE_STATUS='' NODE_GUARD=''
}

cop_teardown() {
	local failed=0
	if [ -n "$NODE_GUARD" ] && [ -z "$NODE_STATUS" ]; then end_node || failed=1; fi
	check_left || failed=1
	if [ "$failed" = 1 ] || [ -z "${BATS_TEST_COMPLETED:-}" ]; then
		show_file "$COP_TMP/stderr" "standard error of the node"
	fi
	rm -rf "$COP_TMP"
	return $failed
}

# Ends a node that the test has left running, the hard way if it does not go.
end_node() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] || show_events
	# It may have ended already, unasked.
	[ -e "$COP_TMP/status" ] || node_kill TERM || true
	node_wait && return 0
	echo "the node did not end in $COP_DEADLINE s after TERM"
	kill -KILL "$NODE_PID" 2>/dev/null || true
	node_wait
	return 1
}

# What is still there of this test: fails and tells.
check_left() {
	local left
	left=$(cat "$COP_TMP/left" 2>/dev/null)
	left+=$("$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID")
	# The lock stays: to remove it would let two nodes hold it.
	left+=$(find "$COPPICE_RUNTIME_DIR" ! -type d ! -name lock 2>/dev/null)
	[ -n "$left" ] || return 0
	echo "left behind: $left"
	kill_marked
	return 1
}

kill_marked() {
	local pid rest
	while read -r pid rest; do
		kill -KILL "$pid" 2>/dev/null || true
	done < <("$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID")
}

show_file() {
	[ -s "$1" ] || return 0
	echo "--- $2:"
	tail -n 40 "$1"
}

show_events() {
	echo "--- events:"
	timeout 5 "$COPPICE" events --json --since 0 2>/dev/null | tail -n 40 || true
}

# --- the node ------------------------------------------------------------------------------

node_conf() {
	cat >"$COP_TMP/node.conf"
}

node_run() {
	rm -f "$COP_TMP/pid" "$COP_TMP/status" "$COP_TMP/left"
	NODE_STATUS=''
	# bats waits for whoever holds its descriptors.
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" guard "$COP_TMP" "$COPPICE" run "$@" \
		>"$COP_TMP/stdout" 2>"$COP_TMP/stderr" </dev/null 3>&- 4>&- &
	NODE_GUARD=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/pid"
	NODE_PID=$(cat "$COP_TMP/pid")
}

node_start() {
	node_run "$@" "$COP_TMP/node.conf"
	wait_until "$COP_DEADLINE" node_up_or_over
	if [ -e "$COP_TMP/status" ]; then
		echo "the node ended with status $(cat "$COP_TMP/status")"
		cat "$COP_TMP/stderr"
		return 1
	fi
}

node_up_or_over() {
	[ -e "$COP_TMP/status" ] || [ "$(cop status --json 2>/dev/null | field state)" = running ]
}

node_wait() {
	wait_until "${1:-$COP_DEADLINE}" test -e "$COP_TMP/status" || return 1
	NODE_STATUS=$(cat "$COP_TMP/status")
	wait "$NODE_GUARD" || true
}

node_stop() {
	node_kill TERM
	node_wait
	assert_equal "$NODE_STATUS" 0
}

node_kill() {
	kill -s "$1" "$NODE_PID"
}

cop() {
	"$COPPICE" "$@"
}

# --- what happens --------------------------------------------------------------------------

wait_event() {
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" event "$@"
}

events_of() {
	cop events --json --since 0 | "$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" filter "$@"
}

field() {
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" field "$1"
}

child() {
	# Status 3 says that the child is not running; that is for the caller to judge.
	{ cop status "$1" --json || [ $? = 3 ]; } | field "$2"
}

wait_child() {
	wait_until "${4:-$COP_DEADLINE}" child_has "$1" "$2" "$3" && return
	echo "$1: $2 is $(child "$1" "$2"), not $3"
	return 1
}

child_has() {
	# shellcheck disable=SC2053 # a pattern
	[[ $(child "$1" "$2") == $3 ]]
}

# Polls: for what has no event. The time is only an upper limit.
wait_until() {
	local deadline=$((SECONDS + $1 + 1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.02
	done
}

# --- judgements ----------------------------------------------------------------------------

assert_gone() {
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" gone "$@"
}

assert_equal() {
	[ "$1" = "$2" ] && return
	printf 'is:       %s\nexpected: %s\n' "$1" "$2"
	return 1
}

assert_match() {
	[[ $1 =~ $2 ]] && return
	printf 'is:       %s\nexpected: %s\n' "$1" "$2"
	return 1
}

# shellcheck disable=SC2154 # bats' run sets status and output
assert_status() {
	[ "$status" = "$1" ] && return
	printf 'status is %s, expected %s; output:\n%s\n' "$status" "$1" "$output"
	return 1
}

refute() {
	if "$@"; then
		echo "succeeded, but should not have: $*"
		return 1
	fi
}

# Compiles standard input as $1, against the library of the build.
compile() {
	local flags=() word
	for word in ${COP_SANITIZERS:-}; do flags+=("-fsanitize=$word"); done
	# shellcheck disable=SC2086 # $CC may have arguments
	${CC:-cc} -Wall -Wextra -Werror "${flags[@]}" -I"$COP_SRCDIR/src/include" -o "$1" -x c - -x none \
		-L"$COP_BUILDDIR/.libs" -lcoppice -Wl,-rpath,"$COP_BUILDDIR/.libs"
}
