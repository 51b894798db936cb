#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What the documentation of the library shows is true: the programs of doc/tutorial.md and of the man
# pages compile as they stand there, and do what is said of them.

load helper

# pieces PROGRAM: the pieces of a program in the tutorial, an empty line between them.
pieces() {
	awk -v fence="\`\`\`c $1" '
	/^```/ { if (on) { on = 0; next } if ($0 == fence) { if (n++) print ""; on = 1; next } }
	on' "$COP_SRCDIR/doc/tutorial.md"
}

# dialogue PROGRAM N: the N-th dialogue of the tutorial that runs a program.
dialogue() {
	awk -v program="$ ./$1" -v want="$2" '
	/^```console$/ { on = 1; text = ""; next }
	/^```$/ { if (on && index(text, program) && ++n == want) printf "%s", text; on = 0 }
	on { text = text $0 "\n" }' "$COP_SRCDIR/doc/tutorial.md"
}

# example PAGE N: the N-th literal display of the examples in a man page.
example() {
	awk -v want="$2" '
	/^\.Sh/ { here = $2 == "EXAMPLES" }
	/^\.Ed/ { on = 0 }
	on { gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\-/, "-"); print }
	here && /^\.Bd.*-literal/ { on = ++n == want }' "$COP_SRCDIR/doc/man/$1.3"
}

# shows PAGE N EXPECTED: an example is a program that prints this, and ends in order.
shows() {
	example "$1" "$2" | compile "$COP_TMP/example"
	run timeout "$COP_DEADLINE" "$COP_TMP/example"
	assert_status 0
	assert_equal "$output" "$3"
}

# shows_like PAGE N REGEX
shows_like() {
	example "$1" "$2" | compile "$COP_TMP/example"
	run timeout "$COP_DEADLINE" "$COP_TMP/example"
	assert_status 0
	assert_match "$output" "$3"
}

# --- a dialogue, played ---------------------------------------------------------------------

# Starts a program of the tutorial with its standard input in our hands.
dialogue_start() {
	rm -f "$COP_TMP/pid" "$COP_TMP/status" "$COP_TMP/left" "$COP_TMP/in" "$COP_TMP/out"
	mkfifo "$COP_TMP/in"
	NODE_STATUS=''
	"$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" guard "$COP_TMP" "$@" \
		<"$COP_TMP/in" >"$COP_TMP/out" 2>&1 3>&- 4>&- &
	NODE_GUARD=$!
	exec 7>"$COP_TMP/in"
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/pid"
	NODE_PID=$(cat "$COP_TMP/pid")
}

has_line() {
	[ "$(wc -l <"$COP_TMP/out")" -ge "$1" ]
}

without_pids() {
	sed 's/process [0-9]*/process N/'
}

# What is typed is typed when all that stands before it has been printed, and what stands there must be
# what is printed.
play() {
	local line command n=0
	while IFS= read -r line; do
		case $line in
		'$ cc '*) ;;
		'$ ./'*)
			read -ra command <<<"${line#??}"
			dialogue_start "$COP_TMP/${command[0]}" "${command[@]:1}" ;;
		'send '* | state | kill | stop) echo "$line" >&7 ;;
		'^D') exec 7>&- ;;
		*)
			n=$((n + 1))
			wait_until "$COP_DEADLINE" has_line $n || { echo "not printed: $line"; return 1; }
			assert_equal "$(sed -n "${n}p" "$COP_TMP/out" | without_pids)" "$(without_pids <<<"$line")" ;;
		esac
	done
	node_wait
	exec 7>&-
	assert_equal "$(wc -l <"$COP_TMP/out")" "$n"
}

# --- the tutorial --------------------------------------------------------------------------

@test "tutorial: its pieces are the program in etc/examples" {
	pieces send_server.c | diff - "$COP_SRCDIR/etc/examples/send_server.c"
}

@test "tutorial: the smallest server" {
	pieces hello.c | compile "$COP_TMP/hello"
	run timeout "$COP_DEADLINE" "$COP_TMP/hello"
	assert_status 0
	assert_equal "$output" "$(dialogue hello 1 | grep -v '^\$')"
}

@test "tutorial: sends, tries again, is killed, stopped, and comes back" {
	pieces send_server.c | compile "$COP_TMP/send_server"
	cd "$COP_TMP"
	play <<<"$(dialogue send_server 1)"
	assert_equal "$NODE_STATUS" 0
	assert_equal "$(cat outbox)" $'Dear hello@world.com\nDear again@world.com'
}

@test "tutorial: a fault that comes back ends the node" {
	pieces send_server.c | compile "$COP_TMP/send_server"
	cd "$COP_TMP"
	play <<<"$(dialogue send_server 2)"
	assert_equal "$NODE_STATUS" 1
}

# --- the man pages -------------------------------------------------------------------------

@test "man pages: what the examples print" {
	shows_like libcoppice 1 '^libcoppice [0-9.]+, process [0-9]+ of node example$'
	shows_like cop_run 1 $'(^|\n)hello in node demo(\n|$)'
	assert_match "$output" $'(^|\n)[0-9]+ normal(\n|$)'
	shows cop_spawn 1 "the sum is 385"
	shows cop_link 1 enough
	shows_like cop_register 1 $'^[0-9]+ first\n1 names$'
	shows cop_server 1 42
	shows cop_agent 1 5
	shows_like cop_registry 1 '^port 9100 of process [0-9]+$'
	shows cop_task 1 16843009000000
	shows cop_task_supervisor 1 "sending to a@example.org"
	shows cop_supervisor 1 \
		$'boss runs\njobs runs\nreader runs\ncache runs\nthere is another reader'
}

@test "man pages: the echo ends with its input, and when it is asked to" {
	example cop_receive 1 | compile "$COP_TMP/echo"
	assert_equal "$(printf 'one\ntwo\n' | timeout "$COP_DEADLINE" "$COP_TMP/echo")" $'one\ntwo'

	dialogue_start "$COP_TMP/echo"
	echo three >&7
	wait_until "$COP_DEADLINE" has_line 1
	assert_equal "$(cat "$COP_TMP/out")" three
	pkill -TERM -P "$NODE_PID"
	node_wait
	exec 7>&-
	assert_equal "$NODE_STATUS" 0
}
