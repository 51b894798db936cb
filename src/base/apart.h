/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Memory that stays apart: a forked process does not get it, so a fork does not become dearer with what is
 * in it. For what a supervisor keeps about thousands of children, and they have no business with. Below a
 * certain size it is ordinary memory, which a fork copies.
 */
#ifndef BASE_APART_H
#define BASE_APART_H

#include <stddef.h>

#define APART_FROM 65536 /* bytes; smaller ones are malloc's */

/* Makes or enlarges a block, new bytes zeroed; old NULL with old_size 0. The old one is gone on success. NULL with
 * ENOMEM. */
void *apart_grow(void *old, size_t old_size, size_t size);
void apart_free(void *p, size_t size);

#endif
