#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# {} as it is; bats' run sets status and output; scripts of items in single quotes; files written and read apart;
# options that a helper may be given
# shellcheck disable=SC2154,SC2016,SC1083,SC2094,SC2119,SC2120
#
# coppice map: items in, output in order, and nothing left running, whatever is killed.

bats_require_minimum_version 1.5.0
load helper

map() {
	timeout 60 "$COPPICE" map "$@" 3>&- 4>&-
}

# What a test leaves is found by its environment; here, while it still runs.
marked() {
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID"
}

# Starts a map in the background; MAP is its guard. Its output is in $COP_TMP/out and err.
map_start() {
	"$COPPICE" map "$@" >"$COP_TMP/out" 2>"$COP_TMP/err" </dev/null 3>&- 4>&- &
	MAP=$!
}

map_wait() {
	MAP_STATUS=0
	wait_until "$COP_DEADLINE" map_is_over || { echo "it goes on"; kill -KILL $MAP; }
	wait $MAP || MAP_STATUS=$?
}

map_is_over() {
	! kill -0 $MAP 2>/dev/null || grep -q '^State:.Z' "/proc/$MAP/status" 2>/dev/null
}

runner() {
	pgrep -P "$MAP"
}

nothing_runs() {
	! marked | grep -v cop_test >/dev/null
}

# --- items and words -----------------------------------------------------------------------

@test "an item for each line, in order, each output together" {
	run map -P 4 -- sh -c 'echo a$0; [ $0 != 1 ] || sleep 0.2; echo b$0' < <(seq 3)
	assert_status 0
	assert_equal "$output" $'a1\nb1\na2\nb2\na3\nb3'
}

@test "the last line needs no newline, and an empty input is no item" {
	assert_equal "$(printf 'a\nb' | map -- echo)" $'a\nb'
	run map -- echo </dev/null
	assert_status 0
	assert_equal "$output" ""
	assert_equal "$(map -- echo x ::: | wc -l)" 0
}

@test "replacement strings" {
	run map --dry-run -- x {} {.} {/} {//} {/.} {#} {%} 'a{}b' ::: d/e/f.tar.gz g.c /h .i d.e/f
	assert_status 0
	assert_equal "${lines[0]}" 'x d/e/f.tar.gz d/e/f.tar f.tar.gz d/e f.tar 1 1 ad/e/f.tar.gzb'
	assert_equal "${lines[1]}" 'x g.c g g.c . g 2 1 ag.cb'
	assert_equal "${lines[2]}" 'x /h /h h / h 3 1 a/hb'
	assert_equal "${lines[3]}" 'x .i .i .i . .i 4 1 a.ib'
	assert_equal "${lines[4]}" 'x d.e/f d.e/f f d.e f 5 1 ad.e/fb'
}

@test "no shell reads an item" {
	run map -- echo ::: '$(touch x)' '; echo y' "'" '*' '-n'
	assert_status 0
	assert_equal "${lines[0]}" '$(touch x)'
	assert_equal "${lines[1]}" '; echo y'
	assert_equal "${lines[3]}" '*'
}

@test "-0: items with newlines; a NUL in a line is that item's failure" {
	assert_equal "$(printf 'a\nb\0c\0' | map -0 -- printf '<%s>')" $'<a\nb><c>'
	run map -- echo < <(printf 'a\0b\nc\n')
	assert_status 1
	assert_match "$output" 'item 1: it has a NUL byte'
	assert_match "$output" $'\nc$'
}

@test "an item that is longer than an argument fails, and the next one does not" {
	run map -- echo < <(head -c 300000 /dev/zero | tr '\0' x; printf '\nshort\n')
	assert_status 1
	assert_match "$output" 'item 1: longer than an argument can be'
	assert_match "$output" $'\nshort$'
}

@test "--max-args: so many items for one command" {
	assert_equal "$(seq 5 | map --max-args 2 -- echo)" $'1 2\n3 4\n5'
	assert_equal "$(map --max-args 2 -- echo a{} z{#} ::: 1 2 3)" $'a1 a2 z1\na3 z2'
}

@test "--pipe: chunks of whole lines on standard input" {
	seq 200000 >"$COP_TMP/in"
	map --pipe -- cat <"$COP_TMP/in" | cmp - "$COP_TMP/in"
	map --pipe --block 10k -P 3 -- cat <"$COP_TMP/in" | cmp - "$COP_TMP/in"
	assert_equal "$(seq 10 | map --pipe --records 4 -- wc -l)" $'4\n4\n2'
	assert_equal "$(printf 'a\0b\0c\0' | map --pipe -0 --records 2 -- tr '\0' .)" 'a.b.c.'
	# one that does not read it all is no reason to fail
	run map --pipe --block 10k -- head -n 1 <"$COP_TMP/in"
	assert_status 0
	assert_equal "${lines[0]}" 1
}

# --- output --------------------------------------------------------------------------------

@test "--unordered: output as items end" {
	map -P 2 --unordered -- sh -c '[ $0 != 1 ] || while [ ! -s "$1" ]; do sleep 0.01; done; echo $0' \
		{} "$COP_TMP/out" ::: 1 2 >"$COP_TMP/out"
	assert_equal "$(cat "$COP_TMP/out")" $'2\n1'
}

@test "standard error stays with its item, and goes to standard error" {
	map -P 2 -- sh -c 'echo o$0; echo e$0 >&2' ::: 1 2 3 >"$COP_TMP/o" 2>"$COP_TMP/e"
	assert_equal "$(cat "$COP_TMP/o")" $'o1\no2\no3'
	assert_equal "$(cat "$COP_TMP/e")" $'e1\ne2\ne3'
}

@test "--tag: before each line" {
	assert_equal "$(map --tag -- printf 'x\ny\n%.0s' ::: a b)" $'a\tx\na\ty\nb\tx\nb\ty'
}

@test "--line-buffer: whole lines while the item runs" {
	mkfifo "$COP_TMP/go"
	map_start --line-buffer --tag -- sh -c 'echo one; printf tw; read x <"$1"; echo o' {} "$COP_TMP/go" ::: a
	wait_until 10 grep -q one "$COP_TMP/out"
	assert_equal "$(cat "$COP_TMP/out")" $'a\tone'
	echo >"$COP_TMP/go"
	map_wait
	assert_equal "$(cat "$COP_TMP/out")" $'a\tone\na\ttwo'
}

@test "output of more than memory is kept, and comes out whole and in order" {
	map -P 2 -- sh -c 'seq -f "$0 %.0f" 300000' ::: 1 2 3 | md5sum >"$COP_TMP/is"
	for i in 1 2 3; do seq -f "$i %.0f" 300000; done | md5sum | cmp - "$COP_TMP/is"
}

@test "without room in the directory for it, an item is held up until it can be kept" {
	TMPDIR=/nonexistent map_start -P 2 -- sh -c '[ $0 = 1 ] || exec yes; sleep 1000' ::: 1 2
	wait_until 10 grep -q 'wait for its turn' "$COP_TMP/err"
	grep -q 'aside in TMPDIR, /nonexistent: ' "$COP_TMP/err"
	[ "$(marked | wc -l)" -ge 3 ]
	kill -INT $MAP
	kill -HUP $MAP
	map_wait
	nothing_runs
	TMPDIR=/nonexistent map_start -P 2 -- yes ::: 1 2
	map_wait
	assert_equal "$MAP_STATUS" 102
	grep -q 'no room for the output' "$COP_TMP/err"
	nothing_runs
}

@test "--json: one record an item" {
	map --json -- sh -c 'printf "%s\n\377" "$0"; echo e >&2; exit 3' ::: 'a"b' >"$COP_TMP/json" || [ $? = 1 ]
	"$COP_PYTHON" -c '
import json, sys
j = json.load(sys.stdin)
assert j["seq"] == 1 and j["item"] == "a\"b" and j["exit"] == 3 and j["signal"] == 0, j
assert j["stdout"] == "a\"b\n\ufffd" and j["stderr"] == "e\n" and j["reason"] == "exit:3", j
assert j["attempts"] == 1 and j["slot"] == 1 and j["pid"] > 1 and j["ran_ms"] >= 0, j' <"$COP_TMP/json"
}

@test "--results: output in files; an item is no path" {
	map --results "$COP_TMP/res" -- sh -c 'echo "$0"; echo e >&2' ::: a ../../x .. /etc "" >/dev/null 2>&1
	cd "$COP_TMP/res/1"
	assert_equal "$(find . -mindepth 1 -maxdepth 1 | wc -l)" 5
	assert_equal "$(cat a/stdout a/stderr a/seq)" $'a\ne\n1'
	assert_equal "$(cat '\.._.._x/stdout' 2>/dev/null || cat '\..\_..\_x/stdout')" ../../x
	[ ! -e "$COP_TMP/x" ]
}

@test "--results: the directory is made, or missed, before anything runs" {
	run map --results "$COP_TMP/a/b//c/" -- echo ::: 1
	assert_status 0
	assert_equal "$(cat "$COP_TMP/a/b/c/1/1/stdout")" 1
	touch "$COP_TMP/file"
	run map --results "$COP_TMP/file/x" -- touch ::: "$COP_TMP/ran"
	assert_status 102
	assert_equal "$output" "coppice: map: unable to write results to $COP_TMP/file/x: Not a directory"
	[ ! -e "$COP_TMP/ran" ]
}

@test "--dry-run runs nothing, and prints what a shell would read" {
	run map --dry-run -- touch "$COP_TMP/{}" ::: 'a b' "it's"
	assert_status 0
	assert_equal "${lines[0]}" "touch '$COP_TMP/a b'"
	eval "${lines[1]}"
	[ -e "$COP_TMP/it's" ]
	mkdir "$COP_TMP/bin"
	printf '#!/bin/sh\nprintf "%%s." "$0" "$@"\n' >"$COP_TMP/bin/if"
	cp "$COP_TMP/bin/if" "$COP_TMP/bin/A=1"
	chmod +x "$COP_TMP/bin/if" "$COP_TMP/bin/A=1"
	for first in if A=1; do
		map -0 --dry-run -- "$first" x < <(printf 'a\n\tb\r\0') >"$COP_TMP/line"
		assert_equal "$(PATH=$COP_TMP/bin:$PATH sh "$COP_TMP/line")" "$COP_TMP/bin/$first.x."$'a\n\tb\r.'
	done
	[ ! -e "$COP_TMP/a b" ]
}

@test "no progress where there is no terminal" {
	run map --progress --bar --eta -- echo ::: 1
	assert_equal "$output" 1
}

@test "an empty environment is one" {
	[ -z "${COP_SANITIZERS:-}" ] || skip "a sanitizer needs its own"
	run env -i "$COPPICE" map -- /usr/bin/env ::: A=1 3>&- 4>&-
	assert_status 0
	assert_match "$output" '^INVOCATION_ID=[0-9a-f]+'
	assert_match "$output" 'A=1$'
}

@test "an input or output that is closed: 102, and one line" {
	run bash -c '"$COPPICE" map -- echo ::: 1 >&-'
	assert_status 102
	assert_equal "$output" "coppice: map: unable to write standard output: Bad file descriptor"
	run bash -c '"$COPPICE" map -- echo <&-'
	assert_status 102
	assert_equal "$output" "coppice: map: unable to read the input: Bad file descriptor"
	run bash -c '"$COPPICE" map -- echo ::: 1 <&-'
	assert_status 0
	assert_equal "$output" 1
}

@test "on a terminal: the line is drawn when it changes" {
	command -v script >/dev/null || skip "no script(1)"
	script -qec "'$COPPICE' map --bar -- sleep ::: 1.5" /dev/null </dev/null >"$COP_TMP/tty" 3>&- 4>&-
	assert_equal "$(grep -o '0/1 done, 1 running' "$COP_TMP/tty" | wc -l)" 1
}

# --- how it ends ---------------------------------------------------------------------------

@test "the exit status is the number of failed items, 101 for more than 100" {
	run map -- sh -c 'exit $0' ::: 0 1 0 9
	assert_status 2
	run map -- false < <(seq 100)
	assert_status 100
	run map -- false < <(seq 150)
	assert_status 101
	run map -- sh -c 'kill -KILL $$' ::: 1
	assert_status 1
}

@test "a program that is not there: 102, and nothing is read" {
	run bash -c 'seq 3 | { "$COPPICE" map -- /nonexistent/x; echo $?; cat; }'
	assert_match "$output" 'unable to execute /nonexistent/x: No such file'
	assert_match "$output" $'102\n1\n2\n3$'
	run map -- '{}' ::: /nonexistent/y true
	assert_status 1
	assert_match "$output" 'item 1: unable to execute'
}

@test "a script without #! is not given to a shell" {
	echo 'echo hello' >"$COP_TMP/script"
	chmod +x "$COP_TMP/script"
	run map -- "$COP_TMP/script" ::: 1
	assert_status 1
	assert_match "$output" 'Exec format error'
}

@test "wrong usage: one line, status 2, nothing run" {
	while read -r words; do
		# shellcheck disable=SC2086
		run map $words
		assert_status 2
		assert_equal "${#lines[@]}" 1
		assert_match "${lines[0]}" '^coppice: map: '
	done <<-'END'
		-P 2
		-P 0 -- true
		-P x% -- true
		echo hello
		--halt perhaps -- true
		--halt soon,fail=0 -- true
		--halt soon,fail=200% -- true
		--timeout -5 -- true
		--timeout soon -- true
		--on-timeout wait -- true
		--retries many -- true
		--backoff 10,5 -- true
		--block 1x --pipe -- true
		--block 10 -- true
		--records 3 -- true
		--max-args 0 -- true
		--resume -- true
		--pipe -- cat ::: a
		--json --tag -- echo
		--tga -- echo
		--node
		--supervisor x -- echo
		--nodes x -- echo
		-z -- echo
		--joblog
	END
}

@test "--halt soon starts no more, now kills, done counts" {
	run map -P 1 --halt soon,fail=1 -- sh -c 'echo $0; exit $0' ::: 0 1 0 0
	assert_status 1
	assert_equal "$output" $'0\n1'
	run map -P 2 --halt now,fail=1 -- sh -c '[ $0 = 1 ] && exit 1; sleep 1000' ::: 0 1 0
	assert_status 1
	run map -P 1 --halt soon,done=2 -- echo ::: a b c
	assert_status 0
	assert_equal "$output" $'a\nb'
	run map -P 1 --halt soon,fail=50% -- sh -c 'echo $0; exit $0' ::: 1 0 0 1 0 0
	assert_status 2
	assert_equal "$output" $'1\n0\n0\n1'
	run map -P 1 --halt never -- false ::: 1 2
	assert_status 2
}

@test "--retries: so often again, the output of the last attempt counts" {
	run map --retries 2 -- sh -c 'echo x >>"$1"; wc -l <"$1"; [ "$(wc -l <"$1")" = 3 ]' {} "$COP_TMP/n" ::: a
	assert_status 0
	assert_equal "$output" 3
	run map --retries 1 --backoff 10,20 -- sh -c 'echo x; false' ::: a
	assert_status 1
	assert_equal "$output" x
	# a chunk is read anew
	run map --pipe --retries 1 -- sh -c 'cat; [ -e "$0" ] || { touch "$0"; exit 1; }' "$COP_TMP/f" < <(seq 3)
	assert_status 0
	assert_equal "$output" $'1\n2\n3'
}

@test "--timeout ends an item with all it has started, also what ignores TERM, has left its group or is stopped" {
	run map -P 3 --timeout 300 -- sh -c "$(
		cat <<-'END'
			case $0 in
			deaf) trap '' TERM; while :; do sleep 1; done ;;
			fork) setsid sh -c 'trap "" TERM; sleep 1000; :' & sleep 1000 ;;
			stop) kill -STOP $$ ;;
			fine) echo fine ;;
			esac
		END
	)" ::: deaf fork stop fine
	assert_status 3
	assert_equal "$output" fine
	nothing_runs
}

@test "--on-timeout exit ends everything" {
	run map -P 2 --timeout 300 --on-timeout exit -- sleep ::: 1000 1001 0 0
	assert_status 103
	assert_match "$output" 'item [12] timed out'
	nothing_runs
}

@test "what an item leaves running ends with it" {
	run map -P 1 -- sh -c '[ $0 = 2 ] && { cat "$1"; exit; }; setsid sleep 1000 & sleep 1000 & echo $! >"$1"' \
		{} "$COP_TMP/pid" ::: 1 2
	assert_status 0
	assert_gone "$output"
	nothing_runs
}

# --- nothing is left -----------------------------------------------------------------------

# An item that starts what nobody waits for, twice, and says that it is there.
nasty='trap "" TERM HUP INT; (setsid sh -c "trap \"\" TERM; echo >>\"$1\"; sleep 1000; :" &) ; (sleep 1000 & )
	while :; do sleep 1000; done'

nasty_start() {
	map_start "$@" -P 2 -- sh -c "$nasty" {} "$COP_TMP/up" ::: 1 2 3
	wait_until 10 eval '[ "$(cat "$COP_TMP/up" 2>/dev/null | wc -l)" = 2 ]'
}

@test "the runner killed: nothing is left" {
	nasty_start
	kill -KILL "$(runner)"
	map_wait
	assert_equal "$MAP_STATUS" 102
	nothing_runs
}

@test "what the user started killed: nothing is left" {
	nasty_start
	kill -KILL $MAP
	map_wait
	wait_until 10 nothing_runs
}

@test "its whole process group killed: nothing is left" {
	set -m
	nasty_start
	set +m
	kill -KILL -- -$MAP
	map_wait
	wait_until 10 nothing_runs
}

@test "killed at any instant: nothing is left" {
	local i victim
	for i in $(seq 30); do
		map_start -P 4 -- sh -c 'sleep 0.0$0 & setsid sleep 1000 & sleep 0.01' ::: $(seq 60)
		"$COP_PYTHON" -c 'import sys, time; time.sleep(int(sys.argv[1]) * 0.004)' "$i" # a random instant is the point
		victim=$MAP
		[ $((i % 2)) = 0 ] || victim=$(runner) || victim=$MAP
		kill -KILL "$victim" 2>/dev/null || true
		map_wait
		wait_until 10 nothing_runs
	done
}

@test "INT once: no more are started, and those that run are waited for; twice: killed" {
	mkfifo "$COP_TMP/go"
	map_start -P 1 -- sh -c 'echo up$0 >>"$1.log"; read x <"$1"; echo $0' {} "$COP_TMP/go" ::: 1 2
	wait_until 10 test -e "$COP_TMP/go.log"
	kill -INT $MAP
	wait_until 10 grep -q waiting "$COP_TMP/err"
	echo >"$COP_TMP/go"
	map_wait
	assert_equal "$MAP_STATUS" 130
	assert_equal "$(cat "$COP_TMP/out")" 1
	assert_equal "$(cat "$COP_TMP/go.log")" up1

	rm "$COP_TMP/up" 2>/dev/null || true
	nasty_start
	kill -INT $MAP
	wait_until 10 grep -q waiting "$COP_TMP/err"
	kill -INT $MAP
	map_wait
	assert_equal "$MAP_STATUS" 130
	nothing_runs
}

@test "ended by a signal, it dies by it" {
	run "$COP_PYTHON" - "$COPPICE" <<-'END'
		import os, signal, subprocess, sys
		for sig in signal.SIGINT, signal.SIGTERM:
		    p = subprocess.Popen(
		        [sys.argv[1], "map", "--line-buffer", "--", "sh", "-c", "echo; exec sleep 1000", ":::", "1"],
		        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		    p.stdout.readline() # it runs
		    p.send_signal(sig)
		    assert b"waiting for 1 item" in p.stderr.readline()
		    p.send_signal(sig)
		    p.wait(30)
		    print(p.returncode == -sig)
	END
	assert_equal "$output" $'True\nTrue'
	nothing_runs
}

@test "HUP kills at once" {
	nasty_start
	kill -HUP $MAP
	map_wait
	assert_equal "$MAP_STATUS" 129
	nothing_runs
}

@test "stopped by TSTP it stands still, goes on with CONT, and leaves nothing when it is killed" {
	map_start -P 1 -- sh -c 'while [ ! -e "$1" ]; do echo >>"$1.n"; sleep 0.01; done; echo done' {} "$COP_TMP/go" ::: 1
	wait_until 10 test -s "$COP_TMP/go.n"
	kill -TSTP $MAP
	# of its session, for a shell within vfork(2) waits for a child that is stopped
	item_stands() { pgrep -s "$(pgrep -P "$(runner)")" -r T >/dev/null; }
	wait_until 10 item_stands
	touch "$COP_TMP/go"
	kill -CONT $MAP
	map_wait
	assert_equal "$MAP_STATUS $(cat "$COP_TMP/out")" '0 done'
	nasty_start
	kill -TSTP $MAP
	wait_until 10 grep -q '^State:.T' "/proc/$MAP/status"
	kill -KILL $MAP
	map_wait
	wait_until 10 nothing_runs
}

@test "a closed output ends it" {
	run bash -c 'yes | timeout 20 "$COPPICE" map -P 2 -- echo | head -n 2; echo ${PIPESTATUS[1]}'
	assert_equal "$output" $'y\ny\n141'
	nothing_runs
}

@test "an output that cannot be written: 102, and one line" {
	[ -e /dev/full ] || skip "no /dev/full"
	run bash -c 'timeout 20 "$COPPICE" map -- echo ::: 1 2 3 >/dev/full'
	assert_status 102
	assert_equal "${#lines[@]}" 1
	assert_match "$output" 'unable to write standard output: No space'
}

@test "a value that is wrong is told with what would be right" {
	run map -P 99999999 -- true
	assert_status 2
	assert_match "$output" 'from 1 to 100000'
}

# --- lazy ----------------------------------------------------------------------------------

@test "an endless input is read as slots become free, and a slow first item lets only so many pass" {
	yes | timeout 60 "$COPPICE" map -P 2 -- sh -c \
		'echo >>"$1"; [ {#} != 1 ] || { touch "$1.1"; while :; do sleep 1; done; }' {} "$COP_TMP/n" \
		>"$COP_TMP/out" 2>/dev/null 3>&- 4>&- &
	local job=$!
	settled() {
		local before
		before=$(wc -l 2>/dev/null <"$COP_TMP/n")
		"$COP_PYTHON" -c 'import time; time.sleep(0.5)' # that nothing more happens is what is looked for
		[ "$before" -gt 2 ] && [ "$before" = "$(wc -l <"$COP_TMP/n")" ]
	}
	wait_until 50 settled
	[ "$(wc -l <"$COP_TMP/n")" -le 1100 ]
	kill -TERM $job
	pkill -HUP -P $job || true
	wait $job || true
	wait_until 10 nothing_runs
}

@test "a slow reader of the output slows the reading of the input" {
	mkfifo "$COP_TMP/slow"
	yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | "$COPPICE" map -P 2 -- sh -c \
		'echo >>"$1"; head -c 4000 /dev/zero' {} "$COP_TMP/n" \
		>"$COP_TMP/slow" 2>/dev/null 3>&- 4>&- &
	local job=$!
	exec 5<"$COP_TMP/slow"
	stands() {
		local before
		before=$(wc -l 2>/dev/null <"$COP_TMP/n")
		"$COP_PYTHON" -c 'import time; time.sleep(0.3)' # as above
		[ "$before" = "$(wc -l <"$COP_TMP/n")" ]
	}
	wait_until 20 test -s "$COP_TMP/n"
	wait_until 20 stands
	[ "$(wc -l <"$COP_TMP/n")" -le 40 ]
	exec 5<&-
	wait $job || assert_equal $? 141
	nothing_runs
}

# --- the log -------------------------------------------------------------------------------

@test "--joblog has the columns of GNU parallel" {
	map --joblog "$COP_TMP/log" -- sh -c 'echo abc; exit $0' ::: 0 3 >/dev/null || [ $? = 1 ]
	assert_equal "$(head -n 1 "$COP_TMP/log")" \
		$'Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand'
	assert_match "$(sed -n 2p "$COP_TMP/log")" $'^1\t:\t[0-9]{10}\\.[0-9]{3}\t +[0-9]+\\.[0-9]{3}\t0\t4\t0\t0\tsh -c'
	assert_match "$(sed -n 3p "$COP_TMP/log")" $'^2\t.*\t4\t3\t0\tsh -c \'echo abc; exit \\$0\' 3$'
}

@test "--resume leaves out what is in the log, --resume-failed what is in it as good" {
	map --joblog "$COP_TMP/log" -- sh -c 'exit $0' ::: 0 1 >/dev/null || [ $? = 1 ]
	run map --joblog "$COP_TMP/log" --resume -- echo ::: 0 1 2
	assert_equal "$output" 2
	run map --joblog "$COP_TMP/log" --resume-failed -- echo ::: 0 1 2 3
	assert_equal "$output" $'1\n3'
	# without either, the log is begun anew
	map --joblog "$COP_TMP/log" -- true ::: 1
	assert_equal "$(wc -l <"$COP_TMP/log")" 2
}

@test "--dry-run with --resume prints what would run, and changes no log" {
	run map --joblog "$COP_TMP/log" --resume --dry-run -- echo ::: 0 1
	assert_status 0
	assert_equal "$output" $'echo 0\necho 1'
	[ ! -e "$COP_TMP/log" ]
	map --joblog "$COP_TMP/log" -- sh -c 'exit $0' ::: 0 1 >/dev/null || [ $? = 1 ]
	printf '3\t:\t1795916215.0' >>"$COP_TMP/log"
	cp "$COP_TMP/log" "$COP_TMP/before"
	run map --joblog "$COP_TMP/log" --resume --dry-run -- echo ::: 0 1 2
	assert_status 0
	assert_equal "$output" 'echo 2'
	run map --joblog "$COP_TMP/log" --resume-failed --dry-run -- echo ::: 0 1 2
	assert_equal "$output" $'echo 1\necho 2'
	cmp "$COP_TMP/log" "$COP_TMP/before"
}

@test "a file that is no log is not resumed, and stays as it is" {
	printf 'my letter\nto you' >"$COP_TMP/letter"
	cp "$COP_TMP/letter" "$COP_TMP/before"
	run map --joblog "$COP_TMP/letter" --resume -- touch ::: "$COP_TMP/x"
	assert_status 102
	assert_equal "$output" "coppice: map: $COP_TMP/letter has something in it that is no log"
	[ ! -e "$COP_TMP/x" ]
	cmp "$COP_TMP/letter" "$COP_TMP/before"
}

@test "a log that is in use is not begun anew" {
	mkfifo "$COP_TMP/go"
	map_start -P 2 --joblog "$COP_TMP/log" -- sh -c '[ $0 = 1 ] || read x <"$1"' {} "$COP_TMP/go" ::: 1 2
	wait_until 10 grep -q '^1' "$COP_TMP/log"
	run map --joblog "$COP_TMP/log" -- touch ::: "$COP_TMP/ran"
	assert_status 102
	assert_equal "$output" "coppice: map: $COP_TMP/log is the log of another one that is running"
	echo >"$COP_TMP/go"
	map_wait
	assert_equal "$MAP_STATUS" 0
	[ ! -e "$COP_TMP/ran" ]
	[ "$(wc -l <"$COP_TMP/log")" = 3 ]
}

@test "a torn last line of the log is cut off" {
	map --joblog "$COP_TMP/log" -- true ::: 1 2
	printf '3\t:\t1795916215.0' >>"$COP_TMP/log"
	run map --joblog "$COP_TMP/log" --resume -- echo ::: 1 2 3 4
	assert_equal "$output" $'3\n4'
	assert_equal "$(cut -f 1 "$COP_TMP/log" | tr '\n' ' ')" 'Seq 1 2 3 4 '
}

@test "killed at any instant and resumed: each item is in the output and in the log exactly once" {
	local i=0 victim
	: >"$COP_TMP/all"
	until [ "$(wc -l <"$COP_TMP/log" 2>/dev/null)" = 1001 ]; do
		i=$((i + 1))
		[ $i -lt 200 ]
		seq 1000 >"$COP_TMP/in"
		"$COPPICE" map -P 4 --joblog "$COP_TMP/log" --resume -- echo item \
			<"$COP_TMP/in" >>"$COP_TMP/all" 2>/dev/null 3>&- 4>&- &
		MAP=$!
		"$COP_PYTHON" -c 'import random, sys, time; time.sleep(random.uniform(0.01, 0.15 + int(sys.argv[1]) / 400))' \
			"$i" # a random instant is the point; later on a slow machine
		victim=$MAP
		[ $((i % 2)) = 0 ] || victim=$(runner) || victim=$MAP
		kill -KILL "$victim" 2>/dev/null || true
		map_wait
	done
	wait_until 10 nothing_runs
	# whose turn had not come when an earlier one was killed comes before it
	seq -f 'item %.0f' 1000 | diff - <(sort -k 2n "$COP_TMP/all")
	seq 1000 | diff - <(tail -n +2 "$COP_TMP/log" | cut -f 1 | sort -n)
}

@test "both outputs in one file: what is not in the log is taken back from it" {
	run bash -c 'trap "" XFSZ; ulimit -f 1; seq 40 | timeout 60 "$COPPICE" map -P 3 --joblog "$COP_TMP/log" -- \
		sh -c "echo \$0; echo \$0 >&2" >"$COP_TMP/out" 2>&1'
	assert_status 102
	grep -c 'unable to write' "$COP_TMP/out" | grep -qx 1
	tail -n +2 "$COP_TMP/log" | cut -f 1 | sed p | diff - <(grep -v 'unable to write' "$COP_TMP/out")
}

@test "a log that cannot be written: 102, one line, and no output but of what is in it" {
	run bash -c 'trap "" XFSZ; ulimit -f 1; seq 40 | timeout 60 "$COPPICE" map -P 3 --joblog "$COP_TMP/log" -- \
		sh -c "echo \$0; echo e\$0 >>\"\$1\"" {} "$COP_TMP/ran" >"$COP_TMP/out"'
	assert_status 102
	assert_equal "$output" "coppice: map: unable to write $COP_TMP/log: File too large"
	tail -n +2 "$COP_TMP/log" | cut -f 1 | diff - "$COP_TMP/out"
	[ -s "$COP_TMP/out" ]
	run bash -c 'seq 40 | timeout 60 "$COPPICE" map --joblog "$COP_TMP/log" --resume -- echo >>"$COP_TMP/out"'
	assert_status 0
	seq 40 | diff - "$COP_TMP/out"
}

# --- too little of everything --------------------------------------------------------------

@test "with few descriptors it runs fewer at a time" {
	run bash -c 'ulimit -n 24; seq 30 | timeout 60 "$COPPICE" map -P 20 -- echo'
	assert_status 0
	assert_equal "$output" "$(seq 30)"
}

@test "with descriptors for one, one at a time" {
	run bash -c 'seq 5 >"$COP_TMP/in"; ulimit -n 10
		timeout 60 "$COPPICE" map -P 8 -- echo <"$COP_TMP/in" >"$COP_TMP/out" 2>"$COP_TMP/err"' 3>&- 4>&-
	assert_status 0
	seq 5 | diff - "$COP_TMP/out"
}

@test "with few processes it runs fewer at a time" {
	[ "$(id -u)" = 0 ] || skip "needs root, to become a user that has no other process"
	command -v setpriv >/dev/null || skip "no setpriv"
	chmod 755 "$COP_TMP"
	run timeout 60 setpriv --reuid 64123 --regid 64123 --clear-groups bash -c \
		'ulimit -u 6; "$COPPICE" map -P 20 -- echo < <(echo 1; echo 2; echo 3; echo 4; echo 5)'
	assert_status 0
	assert_equal "$output" $'1\n2\n3\n4\n5'
}
