#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# One executable as a child: how it ends and what that is called, what it finds when it runs, how
# it is stopped, its watchdog and its sockets. The children are tests/helpers/worker.c.

bats_require_minimum_version 1.5.0
load helper

setup_file() {
	WORKER=$BATS_FILE_TMPDIR/worker
	export WORKER
	"${CC:-cc}" -O1 -o "$WORKER" "$BATS_TEST_DIRNAME/helpers/worker.c" -D_GNU_SOURCE
}

# one KEYS ARG...: a node with one worker `w`, so configured, with these arguments. It is temporary, and
# so forgotten at its end, unless RESTART says otherwise.
one() {
	local keys=$1 args='' a
	shift
	for a in "$@"; do args+=", \"$a\""; done
	node_conf <<-END
		supervisor: { max_restarts = 100; max_seconds = 60;
		  children = ( { id = "w"; restart = "${RESTART:-temporary}"; exec = [ "$WORKER"$args ]; $keys } ); };
	END
	node_start
}

out() {
	cat "$COP_TMP/out"
}

line() {
	grep -Fqx -- "$1" "$COP_TMP/out" || { echo "no line: $1"; cat "$COP_TMP/out"; return 1; }
}

@test "every way to end has its name" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "zero"; restart = "temporary"; exec = [ "$WORKER", "--exit", "0" ]; },
		  { id = "three"; restart = "temporary"; exec = [ "$WORKER", "--exit", "3" ]; },
		  { id = "segv"; restart = "temporary"; exec = [ "$WORKER", "--segv" ]; limits = { core = 0; }; },
		  { id = "kill"; restart = "temporary"; exec = [ "$WORKER", "--raise", "KILL" ]; },
		  { id = "fine"; restart = "temporary"; exec = [ "$WORKER", "--exit", "9" ]; success = [ 0, 9 ]; },
		  { id = "hup"; restart = "temporary"; exec = [ "$WORKER", "--raise", "HUP" ]; success = [ "HUP" ]; }
		); };
	END
	node_start
	wait_event exit path=zero reason=normal asked=false
	wait_event exit path=three reason=exit:3
	wait_event exit path=segv reason=signal:SEGV
	wait_event exit path=kill reason=signal:KILL
	wait_event exit path=fine reason=normal
	wait_event exit path=hup reason=normal
	node_stop
}

@test "restart types and reasons: what is started again" {
	local type how children=''
	for type in permanent transient temporary; do
		for how in "exit 0" "exit 3" "raise KILL" "raise SEGV" "raise ABRT"; do
			children+="{ id = \"$type-${how/ /-}\"; restart = \"$type\"; limits = { core = 0; };
			  exec = [ \"/bin/sh\", \"-c\", \"[ -e $COP_TMP/$type-${how/ /-} ] && exec $WORKER --hold;
			  : >$COP_TMP/$type-${how/ /-}; exec $WORKER --${how}\" ]; },"
		done
	done
	node_conf <<-END
		supervisor: { max_restarts = 100; max_seconds = 60; children = ( ${children%,} ); };
	END
	node_start
	for how in exit-0 exit-3 raise-KILL raise-SEGV raise-ABRT; do
		wait_child "permanent-$how" state running
		wait_event -n 2 start "path=permanent-$how" >/dev/null
		wait_event exit "path=temporary-$how" >/dev/null
	done
	for how in exit-3 raise-KILL raise-SEGV raise-ABRT; do wait_event -n 2 start "path=transient-$how" >/dev/null; done
	wait_child transient-exit-0 state exited
	assert_equal "$(events_of start 'path=temporary-*' | wc -l)" 5
	node_stop
}

@test "a program that cannot be executed says at which step and why" {
	printf 'not a program\n' >"$COP_TMP/plain"
	chmod 755 "$COP_TMP/plain"
	ln -s loop "$COP_TMP/loop"
	node_conf <<-END
		supervisor: { children = (
		  { id = "none"; enabled = false; exec = [ "/nonexistent/program" ]; },
		  { id = "mode"; enabled = false; exec = [ "/etc/passwd" ]; },
		  { id = "format"; enabled = false; exec = [ "$COP_TMP/plain" ]; },
		  { id = "loop"; enabled = false; exec = [ "$COP_TMP/loop" ]; },
		  { id = "dir"; enabled = false; exec = [ "/bin/true" ]; dir = "/nonexistent"; },
		  { id = "big"; enabled = false; exec = [ "/bin/true" ]; env = { BIG = "$(printf 'x%.0s' {1..140000})"; }; }
		); };
	END
	node_start
	local id
	for id in none mode format loop dir big; do
		run -1 cop start "$id"
		assert_match "$output" "^coppice: .*$id"
	done
	wait_event start_failed path=none reason=exec:ENOENT step=exec
	wait_event start_failed path=mode reason=exec:EACCES step=exec
	wait_event start_failed path=format reason=exec:ENOEXEC step=exec
	wait_event start_failed path=loop reason=exec:ELOOP step=exec
	wait_event start_failed path=dir reason=exec:ENOENT step=dir
	wait_event start_failed path=big reason=exec:E2BIG step=exec
	node_stop
}

@test "stop asks, and counts any exit as asked for" {
	RESTART=permanent one 'ready = "notify";' --exit-on TERM:4 --notify READY=1 --hold
	cop stop w
	wait_event stop path=w how=TERM
	wait_event exit path=w reason=shutdown asked=true
	assert_equal "$(child w state)" stopped
	node_stop
}

@test "a stopped process is continued so that it can end" {
	one 'ready = "notify";' --notify READY=1 --stop-self --hold
	cop stop w
	wait_event exit path=w reason=shutdown asked=true
	node_stop
}

@test "who ignores it is killed after its shutdown time" {
	one 'shutdown = 100; ready = "notify";' --ignore TERM --notify READY=1 --hold
	cop stop w
	wait_event stop path=w how=KILL
	wait_event exit path=w reason=killed asked=true
	node_stop
}

@test "another stop signal, and brutal_kill" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "usr"; exec = [ "$WORKER", "--ignore", "TERM", "--hold" ]; stop_signal = "USR2"; },
		  { id = "brutal"; exec = [ "$WORKER", "--hold" ]; shutdown = "brutal_kill"; } ); };
	END
	node_start
	cop stop usr brutal
	wait_event stop path=usr how=USR2
	wait_event exit path=usr reason=shutdown
	wait_event exit path=brutal reason=killed
	[ -z "$(events_of stop path=brutal how=TERM)" ]
	node_stop
}

@test "a child finds a clean process" {
	one 'log = "null"; umask = 022;' --out "$COP_TMP/out" --print-fds --print-signals --print-session --print-umask \
		--print-tty
	wait_event exit path=w reason=normal
	line "fd 0 /dev/null"
	line "fd 1 /dev/null"
	line "fd 2 /dev/null"
	[ "$(grep -c '^fd ' "$COP_TMP/out")" = 3 ]
	line $'SigIgn:\t0000000000000000'
	line $'SigBlk:\t0000000000000000'
	line session=1
	line umask=0022
	line "tty=No such device or address"
	node_stop
}

@test "environment, directory and limits are as configured" {
	export LISTEN_FDS=3 LISTEN_PID=1 NOTIFY_SOCKET=/nonexistent WATCHDOG_USEC=1 INHERITED=yes
	one "dir = \"/usr\"; umask = 077; nice = 3; env = { A = \"1\"; PATH = \"/bin\"; };
	  limits = { nofile = 99; core = 0; fsize = 4096000; };" \
		--out "$COP_TMP/out" --print-env --print-dir --print-umask --print-limits
	wait_event exit path=w reason=normal
	line A=1
	line PATH=/bin
	line INHERITED=yes
	line COPPICE_NODE=node
	line COPPICE_PATH=w
	grep -Eqx 'INVOCATION_ID=[0-9a-f]{32}' "$COP_TMP/out"
	run ! grep -E '^(LISTEN_|WATCHDOG_)|^NOTIFY_SOCKET=/' "$COP_TMP/out"
	line dir=/usr
	line umask=0077
	line nofile=99:99
	line core=0:0
	line fsize=4096000:4096000
	line nice=3
	node_stop
}

@test "env_clear leaves nothing of ours" {
	export SECRET=very
	one 'env_clear = true; env = { A = "1"; };' --out "$COP_TMP/out" --print-env
	wait_event exit path=w reason=normal
	line A=1
	run ! grep -q SECRET "$COP_TMP/out"
	node_stop
}

@test "the watchdog ends who is silent" {
	one 'watchdog = 200; limits = { core = 0; };' --pings 5:50 --hold
	wait_event stop path=w how=ABRT
	wait_event exit path=w reason=watchdog asked=false
	node_stop
}

@test "a stopped child is found by its watchdog and killed" {
	one 'watchdog = 150; shutdown = 100;' --ignore ABRT --notify WATCHDOG=1 --stop-self --hold
	wait_event exit path=w reason=watchdog
	node_stop
}

@test "sockets are passed, and outlive the child" {
	local port
	port=$("$COP_PYTHON" -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
	node_conf <<-END
		supervisor: { max_restarts = 10; children = ( { id = "w"; exec = [ "/bin/sh", "-c",
		  "$WORKER --out $COP_TMP/out --print-fds; LISTEN_PID=\$\$ exec $WORKER --out $COP_TMP/out --listen-check --hold" ];
		  sockets = ( { name = "one"; listen = "unix:$COP_TMP/one.sock"; mode = 0600; },
		              { name = "two"; listen = "tcp:127.0.0.1:$port"; } ); } ); };
	END
	node_start
	wait_until 10 grep -q 'listen fd 4' "$COP_TMP/out"
	line "listen fds=2 mine=1 names=one:two"
	line "listen fd 3 accepting=1 nonblock=0 cloexec=0"
	line "listen fd 4 accepting=1 nonblock=0 cloexec=0"
	assert_equal "$(stat -c %a "$COP_TMP/one.sock")" 600
	local inode
	inode=$(stat -c %i "$COP_TMP/one.sock")
	# Somebody connects while nobody accepts, and waits through the restart.
	"$COP_PYTHON" -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])' "$COP_TMP/one.sock"
	kill -KILL "$(child w pid)"
	wait_event -n 2 ready path=w
	assert_equal "$(stat -c %i "$COP_TMP/one.sock")" "$inode"
	"$COP_PYTHON" -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])' "$COP_TMP/one.sock"
	node_stop
	rm -f "$COP_TMP/one.sock"
}

@test "what it says of itself is shown, escaped" {
	one 'ready = "notify";' --notify $'STATUS=fine \\x1b[31m' --notify READY=1 --hold
	cop status | grep -F 'fine'
	run -0 cop status
	[[ $output != *$'\e'* ]]
	node_stop
}

@test "output without end and a logger that reads on: nothing stops" {
	one '' --garbage 200000 --hold
	wait_event ready path=w
	cop status >/dev/null
	node_stop
}

@test "a crash loop costs its budget and no more" {
	node_conf <<-END
		supervisor: { max_restarts = 20; max_seconds = 60; children = (
		  { id = "w"; exec = [ "$WORKER", "--exit", "1" ]; } ); };
	END
	node_run "$COP_TMP/node.conf"
	node_wait
	assert_equal "$NODE_STATUS" 1
}
