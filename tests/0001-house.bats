#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The house: what is installed where, and that the program answers at all.

load helper

# Installs this build once for all tests of the file; prefix /usr below a private directory.
setup_file() {
	export STAGE=$BATS_FILE_TMPDIR/stage
	make -C "$COP_BUILDDIR" --quiet install DESTDIR="$STAGE" >"$BATS_FILE_TMPDIR/log" 2>&1 </dev/null ||
		{ cat "$BATS_FILE_TMPDIR/log"; return 1; }
	PREFIX=$STAGE$(sed -n 's/^prefix = //p' "$COP_BUILDDIR/Makefile")
	export PREFIX
}

version() {
	sed -n 's/^AC_INIT(\[coppice\], \[\([0-9.]*\)\].*/\1/p' "$COP_SRCDIR/configure.ac"
}

@test "coppice --version names the version of configure.ac" {
	run cop --version
	assert_status 0
	assert_equal "$output" "coppice $(version)"
}

@test "coppice --help tells every command, on standard output" {
	cop --help >"$COP_TMP/help"
	for command in run check status tree start stop restart signal add remove reload events log map shutdown; do
		grep -qE "^ +$command\b" "$COP_TMP/help" || { echo "$command is missing"; return 1; }
	done
}

@test "coppice COMMAND --help works for every command" {
	for command in run check status tree start stop restart signal add remove reload events log map shutdown; do
		run cop $command --help
		assert_status 0
		assert_match "$output" "coppice $command"
	done
}

@test "coppice --version and --help fail when they cannot be written" {
	[ -e /dev/full ] || skip "no /dev/full"
	run sh -c '"$COPPICE" --version >/dev/full'
	assert_status 1
	run sh -c '"$COPPICE" --help >/dev/full'
	assert_status 1
}

@test "no command, and one that is none, are wrong usage" {
	run cop
	assert_status 2
	run cop grow
	assert_status 2
	assert_match "$output" grow
}

@test "what is installed" {
	cd "$PREFIX"
	for file in bin/coppice lib/libcoppice.so lib/libcoppice.a lib/pkgconfig/coppice.pc \
		include/coppice/coppice.h include/coppice/exit.h include/coppice/version.h \
		share/man/man1/coppice.1 share/man/man1/coppice-map.1 share/man/man3/libcoppice.3 share/man/man3/cop_exit.3 \
		share/man/man5/coppice.conf.5 share/man/man7/coppice.7 \
		share/bash-completion/completions/coppice lib/systemd/system/coppice@.service \
		share/doc/coppice/README share/doc/coppice/examples/demo.conf \
		share/doc/coppice/examples/web.conf share/doc/coppice/examples/container.conf; do
		[ -e "$file" ] || { echo "$file is missing"; return 1; }
	done
}

@test "the installed program runs without the library of the build" {
	run env -i "$PREFIX/bin/coppice" --version
	assert_status 0
}

@test "a program compiles and runs with what pkg-config says" {
	[ -z "${COP_SANITIZERS:-}" ] || skip "sanitized library"
	cat >"$COP_TMP/program.c" <<-'END'
		#include <coppice/coppice.h>
		#include <stdio.h>
		int main(void)
		{
			char text[COP_EXIT_FORMAT_MAX];
			struct cop_exit reason = cop_exit_make(COP_EXIT_CODE, 3);

			printf("%s %s\n", cop_version(), cop_exit_format(&reason, text, sizeof text));
			return 0;
		}
	END
	local flags static
	export PKG_CONFIG_LIBDIR=$PREFIX/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$STAGE
	flags=$(pkg-config --cflags --libs coppice)
	# shellcheck disable=SC2086 # flags
	${CC:-cc} -o "$COP_TMP/program" "$COP_TMP/program.c" $flags
	assert_equal "$(LD_LIBRARY_PATH=$PREFIX/lib "$COP_TMP/program")" "$(version) exit:3"
	static=$(pkg-config --cflags coppice)
	# shellcheck disable=SC2086
	${CC:-cc} -o "$COP_TMP/program" "$COP_TMP/program.c" $static "$PREFIX/lib/libcoppice.a"
	assert_equal "$("$COP_TMP/program")" "$(version) exit:3"
}

@test "the library shows nothing but its interface" {
	nm -D --defined-only "$PREFIX/lib/libcoppice.so" | awk '$2 == "T" { print $3 }' >"$COP_TMP/symbols"
	[ -s "$COP_TMP/symbols" ]
	run grep -v '^cop_' "$COP_TMP/symbols"
	assert_equal "$output" ""
}

@test "the systemd unit starts the installed program" {
	unit=$PREFIX/lib/systemd/system/coppice@.service
	bindir=${PREFIX#"$STAGE"}/bin
	grep -qx "ExecStart=$bindir/coppice run --node %i /etc/coppice/%i.conf" "$unit"
	grep -qx 'Type=notify' "$unit"
	if command -v systemd-analyze >/dev/null; then
		# It may not find what is not installed for real; it must not find a wrong line.
		run systemd-analyze verify "$unit"
		[[ ! $output =~ Unknown|Invalid|Failed\ to\ parse ]] || { echo "$output"; return 1; }
	fi
}

@test "the bash completion is accepted by bash" {
	bash -n "$PREFIX/share/bash-completion/completions/coppice"
	run bash -c '. "$1" && complete -p coppice' - "$PREFIX/share/bash-completion/completions/coppice"
	assert_status 0
}

@test "the program is hardened" {
	[ -z "${COP_SANITIZERS:-}" ] || skip "sanitized program"
	command -v readelf >/dev/null || skip "readelf is not installed"
	readelf -hldW "$COPPICE" >"$COP_TMP/elf"
	grep -q 'Type: *DYN' "$COP_TMP/elf"
	grep -q GNU_RELRO "$COP_TMP/elf"
	grep -q BIND_NOW "$COP_TMP/elf"
	grep -E 'GNU_STACK' "$COP_TMP/elf" | grep -qv RWE
}

@test "uninstall removes what install has put there" {
	make -C "$COP_BUILDDIR" --quiet uninstall DESTDIR="$STAGE" >"$COP_TMP/log" 2>&1 </dev/null
	run find "$STAGE" ! -type d
	assert_equal "$output" ""
}
