#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# base < ipc < proc < otp < { stage, job } < { node, cli }, and ipc < map < cli: a directory includes only itself and
# what is below. The include paths of the build enforce the same; here it is also proved that they do.
# shellcheck disable=SC2086,SC2046,SC2317 # words of flags and names; functions called by name
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

# What each directory may include, as an alternation. The command knows the node; not the reverse.
may_include() {
	case $1 in
	base) echo 'base' ;;
	ipc) echo 'base|ipc' ;;
	proc) echo 'base|ipc|proc' ;;
	otp) echo 'base|ipc|proc|otp' ;;
	node) echo 'base|ipc|proc|otp|node' ;;
	map) echo 'base|ipc|map' ;;
	cli) echo 'base|ipc|proc|otp|node|map|cli' ;;
	esac
}

# Every quoted include names a layer and a file: "base/wire.h", neither "wire.h" nor "../x/y.h".
wrong_includes() {
	grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src/"$1"/*.[ch] |
		grep -vE "\"($(may_include "$1"))/[a-z0-9_]+\.h\""
}

for layer in base ipc proc otp node map cli; do
	wrong_includes $layer | empty "src/$layer includes only what it may"
done

find src -mindepth 1 -maxdepth 1 |
	grep -vE '^src/(base|ipc|proc|otp|node|map|cli|include|coppice\.map|coppice\.export|coppice\.pc(\.in)?)$' |
	empty "every directory of src is a known layer"

grep -nE '#[[:space:]]*include' src/include/coppice/*.h | grep -vE '<(coppice/)?[a-z/]+\.h>' |
	empty "public headers include public and system headers only"

grep -rnE '#[[:space:]]*include.*_private\.h' src | while IFS=: read -r file line text; do
	case $text in
	*"\"$(basename "$(dirname "$file")")/"*) ;;
	*) echo "$file:$line:$text" ;;
	esac
done | empty "private headers stay in their directory"

# The supervisor's decisions: neither messages nor loops nor processes.
grep -nE '#[[:space:]]*include.*"(ipc|proc|node|stage|job)/' src/otp/sup_*.[ch] |
	empty "the supervisor core sees base and otp only"

grep -nE '#[[:space:]]*include *<(unistd|time|sys/[a-z]+|signal|fcntl|pthread|poll|spawn)\.h>' \
	src/otp/sup_*.[ch] | empty "the supervisor core includes no header of system calls"

# The build's own proof: with a lower layer's include path an upper header is not found.
base_sees() {
	echo "#include \"$1\"" | $CC -std=c17 -D_GNU_SOURCE -Isrc/include \
		-I"$COP_BUILDDIR/layers/base" -x c -fsyntax-only -
}
base_does_not_see() {
	! base_sees "$1"
}
verdict "base finds its own headers" base_sees base/wire.h
verdict "base does not find a header of node" base_does_not_see node/spec.h

# What the compiled core asks of the world. Deciding needs no memory; adding a child does.
asked_for() {
	for object in "$COP_BUILDDIR"/src/otp/libotp_la-$1.o; do
		nm -u "$object" | awk -v o="$(basename "$object")" '{ print o ": " $NF }'
	done | grep -vE ": (sup_|cop_exit_|text_|diag_|__?mem|__?str|mem(cpy|move|set|cmp)|str(len|cmp|ncmp|nlen|lcpy)|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__gcov|__llvm$2)"
}
if [ -n "${COP_SANITIZERS:-}" ]; then
	skip "the supervisor core makes no system call" "the sanitizers call everything"
else
	asked_for 'sup_[!c]*' '|__errno_location|calloc|malloc|realloc|reallocarray|free|apart_grow|apart_free' |
		empty "the supervisor core's lists ask for memory only"
	asked_for sup_core '' | empty "the supervisor core's decisions ask for nothing"
fi
done_testing
