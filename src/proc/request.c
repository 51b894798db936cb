/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Which replies are waited for: the alias of a call. Others vanish when they are taken in. Private memory. */
#include <errno.h>

#include "proc/proc.h"

int proc_expect(uint64_t ref)
{
	uint32_t i;

	for (i = 0; i < PROC_REQUESTS; i++)
		if (proc.request[i] == 0) {
			proc.request[i] = ref;
			if (i >= proc.n_requests)
				proc.n_requests = i + 1;
			return 0;
		}
	errno = EAGAIN;
	return -1;
}

bool proc_is_expected(uint64_t ref)
{
	uint32_t i;

	for (i = 0; i < proc.n_requests; i++)
		if (proc.request[i] == ref)
			return true;
	return false;
}

void proc_unexpect(uint64_t ref)
{
	uint32_t i;

	for (i = 0; i < proc.n_requests; i++)
		if (proc.request[i] == ref)
			proc.request[i] = 0;
	while (proc.n_requests > 0 && proc.request[proc.n_requests - 1] == 0)
		proc.n_requests--;
}
