/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* How the processes of a node that are not in a hurry are scheduled (node.h). Linux only. */
#include "node/node.h"

#include <sched.h>

void node_be_patient(void)
{
	struct sched_param p = { .sched_priority = 0 };

	if (sched_getscheduler(0) == SCHED_OTHER) /* whoever chose another policy knows better */
		sched_setscheduler(0, SCHED_BATCH, &p);
}
