#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Runs shellcheck on every script, python's compiler on every python file.
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

scripts() {
	find contrib tests .ci -type f ! -path 'tests/conformance/*' ! -name '*.log' ! -name '*.trs' |
		while read -r file; do
			case $(head -n 1 "$file" | tr -d '\0') in
			'#!'*[/\ ]sh | '#!'*bash | '#!'*bats) echo "$file" ;;
			*) case $file in *.bash | *.bats | tests/lint/tap) echo "$file" ;; esac ;;
			esac
		done | sort
}

if [ -z "${SHELLCHECK:=$(command -v shellcheck)}" ]; then
	skip "scripts" "shellcheck is not installed"
else
	for script in $(scripts); do
		case $script in
		# The tests of a file run in subshells of bats, and set variables for each other.
		*.bats) verdict "$script" "$SHELLCHECK" -s bats -S warning -e SC2030,SC2031,SC2164,SC2038,SC2115,SC2119,SC2120,SC2154,SC2034,SC1091 "$script" ;;
		*) verdict "$script" "$SHELLCHECK" -x -P SCRIPTDIR -e SC1091 "$script" ;;
		esac
	done
fi
for file in $(find contrib tests -name '*.py' | sort); do
	verdict "$file" python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$file"
done
done_testing
