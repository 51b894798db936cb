#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The man pages: well-formed, complete, referring to pages that exist, with examples that compile.
# shellcheck disable=SC2086,SC2046,SC2317 # words of flags and names; functions called by name
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

# What belongs to Coppice but is not called coppice-something is found by its file.
page_exists() {
	ls doc/man/"$1.$2" >/dev/null 2>&1 ||
		grep -qE "^\.Nm $1( ,)?$" doc/man/*."$2" 2>/dev/null
}

dangling() {
	sed -n 's/^\.Xr \([^ ]*\) \([0-9]\).*/\1 \2/p' "$1" | sort -u | while read -r name section; do
		case $name in
		coppice* | libcoppice* | cop_*) page_exists "$name" "$section" || echo "$1: $name($section)" ;;
		esac
	done
}

# example FILE N: the N-th literal display of EXAMPLES, or nothing.
example() {
	awk -v want="$2" '
	/^\.Sh/ { here = $2 == "EXAMPLES" }
	/^\.Ed/ { on = 0 }
	on { gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\-/, "-"); print }
	here && /^\.Bd.*-literal/ { on = ++n == want }' "$1"
}

# A program, or statements to be put into a function.
compiles() {
	if ! grep -q '^#include' "$1"; then
		printf '%s\n' '#include <coppice/coppice.h>' '#include <stdio.h>' \
			'void example(void); void example(void) {' "$(cat "$1")" '}' >"$1.full"
	else
		cp "$1" "$1.full"
	fi
	$CC -std=c17 -Wall -Wextra -Werror -Isrc/include -x c -fsyntax-only "$1.full"
}

for page in doc/man/*.[1-9]; do
	name=$(basename "$page")
	if [ -n "${MANDOC:=$(command -v mandoc)}" ]; then
		verdict "$name is well-formed" "$MANDOC" -T lint -W warning "$page"
	else
		skip "$name is well-formed" "mandoc is not installed"
	fi
	dangling "$page" | empty "$name refers to pages that exist"
	case $name in *.3)
		n=1
		while example "$page" $n >"$tap_tmp/example.c" && [ -s "$tap_tmp/example.c" ]; do
			verdict "$name: example $n compiles" compiles "$tap_tmp/example.c"
			n=$((n + 1))
		done
		grep -q '^\.Sh RETURN VALUES' "$page" || [ "$name" = libcoppice.3 ] || echo "$page" |
			empty "$name says what is returned" ;;
	esac
done
done_testing
