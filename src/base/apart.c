/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Memory that forked processes do not get (apart.h). Any process. */
#include "base/apart.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *apart_grow(void *old, size_t old_size, size_t size)
{
	void *p;

	if (size < APART_FROM) {
		p = realloc(old, size);
		if (p && size > old_size)
			memset((char *)p + old_size, 0, size - old_size);
		return p;
	}
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		errno = ENOMEM;
		return NULL;
	}
	(void)madvise(p, size, MADV_DONTFORK); /* or it is copied, and that is all */
	if (old_size)
		memcpy(p, old, old_size);
	apart_free(old, old_size);
	return p;
}

void apart_free(void *p, size_t size)
{
	if (size < APART_FROM)
		free(p);
	else
		munmap(p, size);
}
