#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Every header can be included alone and twice; public ones by plain C17 and by C++ without
# any definition of ours.
# shellcheck disable=SC2086,SC2046,SC2317 # words of flags and names; functions called by name
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

bsd=$(pkg-config --cflags libbsd-overlay 2>/dev/null)

alone() {
	printf '#include "%s"\n#include "%s"\n' "$1" "$1" | $CC -std=c17 -D_GNU_SOURCE -Wall -Wextra \
		-Wstrict-prototypes -Wundef -Werror -Isrc -Isrc/include $bsd -x c -fsyntax-only -
}

public_alone() {
	printf '#include <%s>\n#include <%s>\n' "$1" "$1" |
		$CC "-std=$2" -pedantic -Wall -Wextra -Werror -Isrc/include -x "$3" -fsyntax-only -
}

for header in $(find src -name '*.h' ! -path 'src/include/*' | sort); do
	verdict "${header#src/} alone" alone "${header#src/}"
done
for header in src/include/coppice/*.h; do
	name=${header#src/include/}
	verdict "<$name> alone" public_alone "$name" c17 c
	if echo 'int main() {}' | $CC -x c++ -fsyntax-only - 2>/dev/null; then
		verdict "<$name> in C++" public_alone "$name" c++17 c++
	else
		skip "<$name> in C++" "no C++ compiler"
	fi
done

# coppice.h is all of them and has nothing of its own.
for header in src/include/coppice/*.h; do
	[ "$header" = src/include/coppice/coppice.h ] || echo "#include <coppice/$(basename "$header")>"
done >"$tap_tmp/all"
grep '^#include' src/include/coppice/coppice.h | sort | diff - "$tap_tmp/all" |
	empty "coppice.h includes every public header"
done_testing
