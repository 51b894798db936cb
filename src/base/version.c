/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The version, as configure knows it. The only file that sees PACKAGE_VERSION: the programs and
 * the documents of the wire ask cop_version(). Runs anywhere, owns nothing, never allocates.
 */
#include <coppice/version.h>

#ifndef PACKAGE_VERSION
#error "compile with config.h, or with -DPACKAGE_VERSION"
#endif

const char *cop_version(void)
{
	return PACKAGE_VERSION;
}
