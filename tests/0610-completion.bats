#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What bash offers after `coppice`.

load helper

# complete WORD...: the offers for the last word, sorted, on one line.
offers() {
	# shellcheck disable=SC2016
	bash --norc -c '
		. "$COP_SRCDIR/contrib/completion/coppice.bash"
		COMP_WORDS=("$COPPICE" "$@")
		COMP_CWORD=$#
		_coppice 2>/dev/null
		printf "%s\n" "${COMPREPLY[@]}"
	' bash "$@" | sort | tr '\n' ' '
}

@test "commands" {
	assert_equal "$(offers s)" "send shutdown signal start status stop "
	assert_equal "$(offers help re)" "reload remove restart "
	assert_equal "$(offers --json rel)" "reload "
}

@test "options of a command" {
	assert_equal "$(offers reload --d)" "--dry-run "
	assert_equal "$(offers status --f)" " "
	assert_equal "$(offers events --f)" "--follow "
	assert_equal "$(offers run --restart t)" "temporary transient "
	assert_equal "$(offers run --restart = tr)" "transient "
	assert_equal "$(offers signal web U)" "USR1 USR2 "
}

@test "every option that is offered is one that the command takes" {
	for command in run check status tree start stop restart signal add task remove reload events log call cast send names map shutdown; do
		for option in $(offers "$command" --); do
			"$COPPICE" "$command" --help | grep -q -e "$option" || { echo "$command $option"; return 1; }
		done
	done
}

@test "no node: no paths, and no words about it" {
	assert_equal "$(offers status '')" " "
}

@test "paths of the node" {
	node_conf <<'END'
node = "demo";
supervisor: { children = (
	{ id = "cache"; exec = [ "/bin/sleep", "1000" ]; },
	{ id = "app"; type = "supervisor"; children = ( { id = "db"; exec = [ "/bin/sleep", "1000" ]; } ); } ); };
END
	node_start
	assert_equal "$(offers stop '')" "app app/db cache "
	assert_equal "$(offers stop cache app/)" "app/db "
	assert_equal "$(offers log ca)" "cache "
	assert_equal "$(offers status --node demo a)" "app app/db "
	assert_equal "$(offers status --node = other a)" " "
	assert_equal "$(offers status --node '')" "demo "
	assert_equal "$(offers call '')" " "
}
