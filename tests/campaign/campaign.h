/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Campaigns that are in files of their own. Each runs as a node's first process and ends with its verdict. */
#ifndef CAMPAIGN_H
#define CAMPAIGN_H

#include <stdint.h>

struct campaign {
	int64_t play_ms;
	uint64_t seed;
};

/* Tasks and streams whose processes, of every kind, are killed at random. */
void campaign_tasks(void *campaign);

#endif
