#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Whatever a child has started ends with it, and nothing else does: with cgroups and without, by
# stop, by crash, by SIGKILL of any process of the node.

bats_require_minimum_version 1.5.0
load helper

setup_file() {
	WORKER=$BATS_FILE_TMPDIR/worker
	export WORKER
	"${CC:-cc}" -O1 -o "$WORKER" "$BATS_TEST_DIRNAME/helpers/worker.c" -D_GNU_SOURCE
}

# workers_are N: so many processes of this test run the worker. A daemonized one calls itself that.
workers_are() {
	local all n=0 line
	all=$("$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID")
	while read -r line; do
		[[ $line == *" $WORKER "* || $line == *" worker worker --hold" ]] && n=$((n + 1))
	done <<<"$all"
	[ "$n" = "$1" ] || { echo "$n, not $1"; return 1; }
}

family() {
	node_conf <<-END
		supervisor: { max_restarts = 100; max_seconds = 60; children = (
		  { id = "a"; exec = [ "$WORKER", "--fork", "2", "--setsid", "--daemonize", "--notify", "READY=1", "--hold" ];
		    ready = "notify"; },
		  { id = "b"; exec = [ "$WORKER", "--fork", "1", "--daemonize", "--notify", "READY=1", "--hold" ];
		    ready = "notify"; } ); };
	END
	node_start
	wait_until 5 workers_are 8
}

stop_takes_all() {
	family
	cop stop a
	wait_until 5 workers_are 3
	cop start a
	wait_until 5 workers_are 8
	node_stop
	workers_are 0
}

@test "a stop takes all that was started, and nobody else's" { stop_takes_all; }
@test "a stop takes all, without cgroups" { COPPICE_NO_CGROUP=1 stop_takes_all; }

crash_takes_all() {
	family
	local i
	for i in 2 3 4; do
		kill -KILL "$(child a pid)"
		wait_event -n $i ready path=a >/dev/null
		wait_until 5 workers_are 8
	done
	assert_equal "$(events_of exit path=b)" ""
	node_stop
}

@test "a crash takes all before the restart" { crash_takes_all; }
@test "a crash takes all, without cgroups" { COPPICE_NO_CGROUP=1 crash_takes_all; }

root_killed() {
	family
	kill -KILL "$NODE_PID"
	node_wait
	wait_until 10 workers_are 0
	rm -rf "$COPPICE_RUNTIME_DIR" "$COP_TMP/left"
	mkdir -m 700 "$COPPICE_RUNTIME_DIR"
}

@test "kill -9 of the root leaves nothing" { root_killed; }
@test "kill -9 of the root leaves nothing, without cgroups" { COPPICE_NO_CGROUP=1 root_killed; }

supervisor_killed() {
	node_conf <<-END
		supervisor: { max_restarts = 100; max_seconds = 60; children = (
		  { id = "s"; type = "supervisor"; children = (
		    { id = "a"; exec = [ "$WORKER", "--fork", "2", "--daemonize", "--notify", "READY=1", "--hold" ];
		      ready = "notify"; } ); } ); };
	END
	node_start
	wait_until 5 workers_are 4
	local i
	for i in 2 3 4; do
		kill -KILL "$(child s pid)"
		wait_event -n $i ready path=s/a >/dev/null
		wait_until 5 workers_are 4
	done
	node_stop
}

@test "kill -9 of a supervisor: its children end, and run again once" { supervisor_killed; }
@test "kill -9 of a supervisor, without cgroups" { COPPICE_NO_CGROUP=1 supervisor_killed; }

@test "kill_group = false leaves the others alone until the end" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "a"; exec = [ "$WORKER", "--daemonize", "--notify", "READY=1", "--hold" ]; ready = "notify";
		    kill_group = false; } ); };
	END
	node_start
	wait_until 5 workers_are 2
	cop stop a
	wait_until 5 workers_are 1
	node_stop
	wait_until 5 workers_are 0
}

@test "a death is known although others hold its pipes" {
	node_conf <<-END
		supervisor: { children = ( { id = "a"; restart = "temporary"; kill_group = false;
		  exec = [ "$WORKER", "--fork", "1", "--exit", "5" ]; } ); };
	END
	node_start
	wait_event exit path=a reason=exit:5
	node_stop
}

@test "a frozen cgroup can be stopped" {
	family
	local dir
	dir=$(find /sys/fs/cgroup -path '*/w-a/cgroup.procs' -exec grep -lx "$(child a pid)" {} + 2>/dev/null) || true
	[ -n "$dir" ] || { node_stop; skip "no cgroup"; }
	echo 1 >"${dir%/*}/cgroup.freeze"
	cop signal a TERM
	run cop restart a
	wait_until 10 workers_are 8
	node_stop
}

@test "a fork bomb of a limited user hurts nobody else" {
	[ "$(id -u)" = 0 ] || skip "only as root"
	chmod 755 "$COP_TMP" "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" 2>/dev/null || true
	cp "$WORKER" "$COP_TMP/worker"
	node_conf <<-END
		supervisor: { max_restarts = 100; max_seconds = 60; children = (
		  { id = "bomb"; exec = [ "/bin/sh", "-c", "while :; do $COP_TMP/worker --hold & done 2>/dev/null" ];
		    user = "nobody"; limits = { nproc = 60; }; log = "null"; shutdown = 300; },
		  { id = "good"; exec = [ "$WORKER", "--hold" ]; } ); };
	END
	node_start
	kill -KILL "$(child good pid)"
	wait_event -n 2 ready path=good
	cop stop bomb
	node_stop
}

@test "between fork and exec only expected system calls are made" {
	command -v strace >/dev/null || skip "no strace"
	[ -z "${COP_SANITIZERS:-}" ] || skip "a sanitizer makes calls of its own"
	node_conf <<-END
		supervisor: { children = ( { id = "w"; exec = [ "$WORKER", "--hold" ]; dir = "/"; umask = 077; nice = 1;
		  limits = { core = 0; }; } ); };
	END
	strace -f -o "$COP_TMP/trace" "$COPPICE" run "$COP_TMP/node.conf" >"$COP_TMP/stdout" 2>"$COP_TMP/stderr" </dev/null 3>&- &
	local tracer=$!
	wait_until 20 node_up
	cop shutdown
	wait $tracer || true
	run -0 "$COP_PYTHON" - "$COP_TMP/trace" "$WORKER" <<-'END'
		import re, sys
		allowed = set('''setsid rt_sigaction rt_sigprocmask ioctl setrlimit prlimit64 setpriority getpriority
		  openat open dup2 dup3 fcntl close close_range umask chdir setgroups setresgid setresuid getresuid
		  getresgid getgroups prctl getppid getpid pipe2 write splice execve getegid geteuid newfstatat fstat
		  clock_gettime getrlimit set_robust_list rseq exit_group'''.split())
		calls, child = {}, None
		for line in open(sys.argv[1]):
		    m = re.match(r'(\d+) +(?:<\.\.\. )?(\w+)', line)
		    if not m:
		        continue
		    calls.setdefault(m[1], []).append(m[2])
		    if m[2] == 'execve' and sys.argv[2] in line and '= 0' in line or sys.argv[2] in line and 'execve' in line:
		        child = m[1]
		        break
		assert child, 'no child seen'
		extra = set(calls[child]) - allowed
		assert not extra, extra
		print(' '.join(calls[child]))
	END
}

node_up() {
	[ "$(cop status --json 2>/dev/null | field state)" = running ]
}

# Also when the test has failed half way: what is frozen holds up everything after it.
teardown() {
	if mountpoint -q "$COP_TMP/mnt"; then
		fsfreeze -u "$COP_TMP/mnt" 2>/dev/null || true
	fi
	if [ -n "$NODE_GUARD" ] && [ -z "$NODE_STATUS" ]; then end_node; fi
	if mountpoint -q "$COP_TMP/mnt"; then umount "$COP_TMP/mnt"; fi
	cop_teardown
}

@test "a process that cannot be killed keeps nobody else waiting, and nothing runs twice" {
	[ "$(id -u)" = 0 ] || skip "only as root"
	command -v mkfs.ext4 >/dev/null && command -v fsfreeze >/dev/null || skip "no tools for a frozen file system"
	truncate -s 16M "$COP_TMP/disk"
	mkfs.ext4 -q "$COP_TMP/disk"
	mkdir "$COP_TMP/mnt"
	mount -o loop "$COP_TMP/disk" "$COP_TMP/mnt" 2>/dev/null || skip "no loop device"
	node_conf <<-END
		supervisor: { max_restarts = 100; max_seconds = 60; children = (
		  { id = "d"; exec = [ "/bin/sh", "-c",
		    "while :; do echo x >$COP_TMP/mnt/file; done & echo \$! >$COP_TMP/writer; wait" ]; },
		  { id = "good"; exec = [ "$WORKER", "--hold" ]; } ); };
	END
	node_start
	wait_until 5 test -s "$COP_TMP/writer"
	fsfreeze -f "$COP_TMP/mnt"
	wait_until 5 in_d_state "$(cat "$COP_TMP/writer")"
	kill -KILL "$(child d pid)"
	kill -KILL "$(child good pid)"
	wait_event -n 2 ready path=good
	cop status >/dev/null
	wait_event note 'text=*do not end although killed*'
	assert_equal "$(events_of start path=d | wc -l)" 1
	fsfreeze -u "$COP_TMP/mnt"
	wait_event exit path=d reason=signal:KILL
	wait_event -n 2 ready path=d
	node_stop
	umount "$COP_TMP/mnt"
}

in_d_state() {
	[ "$(cut -d' ' -f3 "/proc/$1/stat")" = D ]
}

@test "the empty cgroup of a killed node is swept by the next one, and that of a living one is not" {
	node_conf <<-END
		supervisor: { children = ( { id = "a"; exec = [ "sleep", "1000" ]; } ); };
	END
	node_start
	local living killed pid
	living=$(cgroup_of "$(child a pid)")
	[ -n "$living" ] || { node_stop; skip "no cgroup"; }
	COPPICE_RUNTIME_DIR=$COP_TMP/other "$COPPICE" run --node other -- sleep 1000 3>&- 4>&- &
	pid=$!
	wait_until 10 eval 'killed=$(cgroup_of "$(pgrep -P "$(pgrep -P '$pid' -f supervisor)")")'
	kill -KILL $pid
	wait $pid || true
	wait_until 10 cgroup_is_empty "$killed"
	COPPICE_RUNTIME_DIR=$COP_TMP/other "$COPPICE" run --node third -- true
	[ ! -e "$killed" ]
	[ -e "$living" ]
	assert_equal "$(child a state)" running
	node_stop
}

# The directory of the node's cgroup in which a process is.
cgroup_of() {
	local top path
	[ -n "$1" ] || return 1
	top=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	path=$(sed -n 's/^0:://p' "/proc/$1/cgroup")
	case $path in
	*/coppice.*) echo "$top${path%%/coppice.*}/coppice.$(echo "${path#*/coppice.}" | cut -d/ -f1)" ;;
	esac
}

cgroup_is_empty() {
	grep -q '^populated 0' "$1/cgroup.events"
}
