#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Services as another user: dropped completely, provably, or not run at all.

bats_require_minimum_version 1.5.0
load helper

setup_file() {
	export BUILD=$BATS_FILE_TMPDIR
	"${CC:-cc}" -O1 -o "$BUILD/worker" "$BATS_TEST_DIRNAME/helpers/worker.c" -D_GNU_SOURCE
	"${CC:-cc}" -O1 -o "$BUILD/denied" "$BATS_TEST_DIRNAME/helpers/denied.c" -D_GNU_SOURCE
}

setup() {
	[ "$(id -u)" = 0 ] || skip "only as root"
	cop_setup
	# The other user must reach the program.
	chmod 755 "$COP_TMP"
	cp "$BUILD/worker" "$COP_TMP/worker"
	mkdir -m 777 "$COP_TMP/out"
}

teardown() {
	[ -z "${COP_TMP:-}" ] || cop_teardown
}

line() {
	grep -Fqx -- "$1" "$COP_TMP/out/out" || { echo "no line: $1"; cat "$COP_TMP/out/out"; return 1; }
}

# one KEYS ARG...
one() {
	local keys=$1 args='' a
	shift
	for a in "$@"; do args+=", \"$a\""; done
	node_conf <<-END
		supervisor: { children = ( { id = "w"; restart = "temporary"; exec = [ "$COP_TMP/worker"$args ]; $keys } ); };
	END
	node_start
}

@test "user, group, groups: nothing of root is left" {
	one 'user = "nobody"; group = "nogroup"; groups = [ "adm" ]; umask = 027;' \
		--out "$COP_TMP/out/out" --print-ids --print-env --print-umask
	wait_event exit path=w reason=normal
	local uid gid adm
	uid=$(id -u nobody) gid=$(getent group nogroup | cut -d: -f3) adm=$(getent group adm | cut -d: -f3)
	line "Uid:"$'\t'"$uid"$'\t'"$uid"$'\t'"$uid"$'\t'"$uid"
	line "Gid:"$'\t'"$gid"$'\t'"$gid"$'\t'"$gid"$'\t'"$gid"
	grep -q "^Groups:.*$adm" "$COP_TMP/out/out"
	line "CapPrm:"$'\t'0000000000000000
	line "CapEff:"$'\t'0000000000000000
	line "NoNewPrivs:"$'\t'1
	line USER=nobody
	line LOGNAME=nobody
	line umask=0027
	node_stop
}

@test "limits are set although the user could not raise them" {
	one 'user = "nobody"; limits = { nofile = 300; nproc = 77; memlock = 8388608; };' \
		--out "$COP_TMP/out/out" --print-limits
	wait_event exit path=w reason=normal
	line nofile=300:300
	line nproc=77:77
	line memlock=8388608:8388608
	node_stop
}

@test "a program with the set-user-ID bit gives nothing back" {
	cp "$COP_TMP/worker" "$COP_TMP/suid"
	chmod 4755 "$COP_TMP/suid"
	node_conf <<-END
		supervisor: { children = ( { id = "w"; restart = "temporary"; user = "nobody";
		  exec = [ "/bin/sh", "-c", "exec $COP_TMP/suid --out $COP_TMP/out/out --print-ids" ]; } ); };
	END
	node_start
	wait_event exit path=w reason=normal
	local uid
	uid=$(id -u nobody)
	line "Uid:"$'\t'"$uid"$'\t'"$uid"$'\t'"$uid"$'\t'"$uid"
	node_stop
}

# drop_fails SYSCALL STEP: it says EAGAIN, and the program does not run.
drop_fails() {
	local number
	number=$(printf '#include <sys/syscall.h>\nSYS_%s\n' "$1" | "${CC:-cc}" -E -P - | tail -n 1)
	node_conf <<-END
		supervisor: { children = ( { id = "w"; enabled = false; user = "nobody";
		  exec = [ "$COP_TMP/worker", "--touch", "$COP_TMP/out/ran" ]; } ); };
	END
	printf '#!/bin/sh\nexec "%s" %s 11 "%s" "$@"\n' "$BUILD/denied" "$number" "$COPPICE" \
		>"$COP_TMP/denied"
	chmod +x "$COP_TMP/denied"
	COPPICE=$COP_TMP/denied node_start
	run -1 cop start w
	wait_event start_failed path=w reason=exec:EAGAIN "step=$2"
	[ ! -e "$COP_TMP/out/ran" ]
	node_stop
}

@test "setgroups fails: not run" { drop_fails setgroups groups; }
@test "setresgid fails: not run" { drop_fails setresgid group; }
@test "setresuid fails: not run" { drop_fails setresuid user; }

@test "a service as another user cannot hurt its supervisor or siblings" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "good"; exec = [ "$COP_TMP/worker", "--hold" ]; },
		  { id = "evil"; restart = "temporary"; user = "nobody"; exec = [ "/bin/sh", "-c",
		    "{ kill -KILL \$PPID; echo parent \$?; kill -KILL \$(cat $COP_TMP/out/pid); echo sibling \$?; } >$COP_TMP/out/out 2>/dev/null" ];
		    enabled = false; } ); };
	END
	node_start
	child good pid >"$COP_TMP/out/pid"
	cop start evil
	wait_event exit path=evil
	line "parent 1"
	line "sibling 1"
	assert_equal "$(child good state)" running
	node_stop
}

@test "an unknown user is an error with file and line" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "w"; exec = [ "/bin/true" ]; user = "no-such-user-here"; } ); };
	END
	run -78 cop check "$COP_TMP/node.conf"
	assert_match "$output" "node.conf:2: .*no-such-user-here"
}

@test "a node of an ordinary user runs its services" {
	command -v setpriv >/dev/null || skip "no setpriv"
	node_conf <<-END
		supervisor: { children = ( { id = "w"; restart = "temporary";
		  exec = [ "$COP_TMP/worker", "--out", "$COP_TMP/out/out", "--print-ids", "--fork", "2", "--daemonize" ]; } ); };
	END
	chmod 644 "$COP_TMP/node.conf"
	# Root's own client does not believe a socket in a directory of somebody else.
	AS_USER=(setpriv --reuid "$(id -u nobody)" --regid "$(id -u nobody)" --clear-groups)
	chown -R "$(id -u nobody)" "$COPPICE_RUNTIME_DIR" "$COPPICE_STATE_DIR"
	printf '#!/bin/sh\nexec %s "%s" "$@"\n' "${AS_USER[*]}" "$COPPICE" >"$COP_TMP/coppice"
	chmod 755 "$COP_TMP/coppice"
	"${AS_USER[@]}" "$COPPICE" --version >/dev/null 2>&1 || skip "the user cannot reach the program"
	COPPICE=$COP_TMP/coppice node_start
	COPPICE=$COP_TMP/coppice wait_event exit path=w reason=normal
	node_stop
	line "Uid:"$'\t'"$(id -u nobody)"$'\t'"$(id -u nobody)"$'\t'"$(id -u nobody)"$'\t'"$(id -u nobody)"
}
