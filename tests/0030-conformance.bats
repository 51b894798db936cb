#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The library against OTP itself: scenarios played on both, with the same trace
# (tests/conformance/README.md). tests/conformance/repeat plays them many times.

load helper

# conformance FAMILY [DIRECTORY]: its scenarios, ten after the other; the tens at the same time, since most of a
# scenario is waiting.
conformance() {
	local dir=$COP_SRCDIR/tests/conformance${2:+/$2} ten tens status=0
	# Instrumented code takes its time; the traces hold for any settle time up to 400.
	[ -z "${COP_SANITIZERS:-}" ] || export SETTLE_MS=300
	tens=$(cd "$dir" && for ten in "$1"-[0-9]*.scn; do echo "${ten:0:5}"; done | sort -u)
	for ten in $tens; do
		"$COP_SRCDIR/tests/conformance/compare" "$COP_BUILDDIR/tests/conformance/play" "$dir" "$ten" \
			>"$COP_TMP/$ten" 2>&1 3>&- || echo "$ten" >>"$COP_TMP/wrong" &
	done
	wait
	for ten in $tens; do
		cat "$COP_TMP/$ten"
		grep -q "passed, 0 failed" "$COP_TMP/$ten" || status=1
	done
	[ "$status" -eq 0 ] && [ ! -e "$COP_TMP/wrong" ]
	wait_until 5 guards_are_gone
}

# more_of FAMILY: our own scenarios, whose traces were recorded in the same way.
more_of() {
	[ -z "${COP_SANITIZERS:-}" ] || skip "with these settle times it takes ten minutes"
	conformance "$1" more
}

# What limits the time of a scenario takes a second to notice that it is over.
guards_are_gone() {
	refute grep -q conformance/compare \
		<<<"$("$COP_PYTHON" "$COP_SRCDIR/tests/cop_test.py" marked "$COPPICE_TEST_ID")" >/dev/null
}

# refused TEXT: expects that the player says TEXT of the scenario on standard input, and no more.
refused() {
	cat >"$COP_TMP/bad.scn"
	run "$COP_BUILDDIR/tests/conformance/play" "$COP_TMP/bad.scn"
	assert_status 2
	assert_equal "$output" "player: $COP_TMP/bad.scn: $1"
}

@test "conformance: a scenario that cannot be played is refused with a line" {
	refused "line 1: expected an order line" </dev/null
	printf '%s\n' script | refused "line 1: expected an order line"
	printf '%s\n' 'order total' tree '  worker w' '    worker v' script |
		refused "line 4: w has no children"
	printf '%s\n' 'order total' tree '  worker w strategy=one_for_all' script |
		refused "line 3: unknown option strategy"
	printf '%s\n' 'order total' script '  proc p' '  grow p' | refused "line 4: unknown command grow"
	printf '%s\n' 'order total' script '  proc p' '  link p' | refused "line 4: link takes 2 words"
	printf '%s\n' 'order total' script '  proc p' '  kill q' |
		refused "line 4: no process was ever called q"
}

@test "conformance: supervisors" {
	conformance sup
}

@test "conformance: dynamic supervisors" {
	conformance dyn
}

@test "conformance: servers" {
	conformance srv
}

@test "conformance: links, monitors and exit signals" {
	conformance lnk
}

@test "conformance: registries" {
	conformance reg
}

@test "conformance: agents" {
	conformance agt
}

@test "conformance: more of supervisors" {
	more_of sup
}

@test "conformance: more of dynamic supervisors" {
	more_of dyn
}

@test "conformance: more of servers" {
	more_of srv
}

@test "conformance: more of links, monitors and exit signals" {
	more_of lnk
}

@test "conformance: tasks" {
	conformance tsk
}

@test "conformance: more of tasks" {
	more_of tsk
}

@test "conformance: more of registries" {
	more_of reg
}

@test "conformance: more of agents" {
	more_of agt
}
