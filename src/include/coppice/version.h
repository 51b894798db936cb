/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Which Coppice this is. The number itself stands in configure.ac only; a build asks pkg-config
 * for it, a running program asks the library it was linked with.
 */
#ifndef COPPICE_VERSION_H
#define COPPICE_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Returns the version of the library, as "1.2.3". Static memory, never NULL. */
const char *cop_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
