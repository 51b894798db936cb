dnl SPDX-FileCopyrightText: The Coppice authors
dnl SPDX-License-Identifier: ISC
dnl
dnl Probing of compiler and linker flags. TRY takes what works, one by one; NEED ends configure
dnl when it does not work. Every probe runs with -Werror, so that a flag that is only
dnl ignored with a warning counts as missing. The results gather in COP_CFLAGS, COP_LDFLAGS
dnl (everything), COP_PROG_CFLAGS and COP_PROG_LDFLAGS (programs, not libraries).

dnl COP_PROBE(CFLAGS, LDFLAGS, IF-OK, IF-NOT): do these flags compile and link?
AC_DEFUN([COP_PROBE], [
	cop_save_CFLAGS=$CFLAGS cop_save_LDFLAGS=$LDFLAGS
	CFLAGS="$CFLAGS $COP_CFLAGS -Werror $1" LDFLAGS="$LDFLAGS $COP_LDFLAGS $2"
	AC_LINK_IFELSE([AC_LANG_SOURCE([[#include <string.h>
		int main(void) { return (int)strlen(""); }]])], [cop_probe=yes], [cop_probe=no])
	CFLAGS=$cop_save_CFLAGS LDFLAGS=$cop_save_LDFLAGS
	AS_IF([test $cop_probe = yes], [$3], [$4])
])

AC_DEFUN([COP_TRY_CFLAGS], [
	for cop_flag in m4_normalize([$1]); do
		AC_MSG_CHECKING([whether $CC takes $cop_flag])
		COP_PROBE([$cop_flag], [], [AS_VAR_APPEND([COP_CFLAGS], [" $cop_flag"])])
		AC_MSG_RESULT([$cop_probe])
	done
])

AC_DEFUN([COP_TRY_LDFLAGS], [
	for cop_flag in m4_normalize([$1]); do
		AC_MSG_CHECKING([whether the linker takes $cop_flag])
		COP_PROBE([], [$cop_flag], [AS_VAR_APPEND([COP_LDFLAGS], [" $cop_flag"])])
		AC_MSG_RESULT([$cop_probe])
	done
])

AC_DEFUN([COP_NEED_CFLAGS], [
	AC_MSG_CHECKING([whether $CC takes $1])
	COP_PROBE([$1], [], [AS_VAR_APPEND([COP_CFLAGS], [" $1"])])
	AC_MSG_RESULT([$cop_probe])
	AS_IF([test $cop_probe = no], [AC_MSG_ERROR([$CC does not take $1])])
])

AC_DEFUN([COP_NEED_BOTH], [
	AC_MSG_CHECKING([whether $CC compiles and links with $1])
	COP_PROBE([$1], [$1], [AS_VAR_APPEND([COP_CFLAGS], [" $1"]) AS_VAR_APPEND([COP_LDFLAGS], [" $1"])])
	AC_MSG_RESULT([$cop_probe])
	AS_IF([test $cop_probe = no], [AC_MSG_ERROR([$CC does not take $1])])
])

AC_DEFUN([COP_SANITIZE], [
	COP_NEED_BOTH([-fsanitize=$1])
	AS_VAR_APPEND([COP_SANITIZERS], [" $1"])
])

dnl Position independent programs, also where the compiler's default is another one.
AC_DEFUN([COP_TRY_PIE], [
	AC_MSG_CHECKING([whether programs can be position independent])
	COP_PROBE([-fPIE], [-pie], [COP_PROG_CFLAGS=-fPIE COP_PROG_LDFLAGS=-pie])
	AC_MSG_RESULT([$cop_probe])
])

dnl The highest level of checked libc calls. It needs an optimizing compiler, hence the probe
dnl with the user's CFLAGS, and gives way to a level the user or the compiler has chosen.
AC_DEFUN([COP_TRY_FORTIFY], [
	for cop_flag in -D_FORTIFY_SOURCE=3 -D_FORTIFY_SOURCE=2; do
		AC_MSG_CHECKING([whether $CC takes $cop_flag])
		COP_PROBE([$cop_flag], [], [AS_VAR_APPEND([COP_CFLAGS], [" $cop_flag"])])
		AC_MSG_RESULT([$cop_probe])
		AS_IF([test $cop_probe = yes], [break])
	done
])
