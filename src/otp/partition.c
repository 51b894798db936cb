/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * PartitionSupervisor: a supervisor over copies of one child. The copy of partition i is registered as
 * NAME/i; how many there are stands in the supervisor's slot, so that finding one needs no call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "otp/supervisor_private.h"

#define PARTITIONS_MAX 65536

struct partition_name {
	char text[COP_NAME_MAX + 12];
};

const char *partition_fault(const struct cop_supervisor *s)
{
	if (s->partitions == 0)
		return NULL;
	if (s->partitions < COP_ONLINE || s->partitions > PARTITIONS_MAX || s->dynamic || s->n_children != 1 ||
	    s->auto_shutdown != COP_AUTO_NEVER || !s->name || strlen(s->name) + 7 > COP_NAME_MAX ||
	    s->children[0].exec || s->children[0].supervisor)
		return "invalid_partitions";
	return NULL;
}

const struct cop_supervisor *partition_expand(const struct cop_supervisor *spec)
{
	uint32_t n = spec->partitions > 0 ? (uint32_t)spec->partitions : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN), i;
	struct cop_supervisor *sup = calloc(1, sizeof *sup + n * (sizeof(struct cop_child) + sizeof(struct partition_name)));
	struct cop_child *children = sup ? (void *)(sup + 1) : NULL;
	struct partition_name *names = sup ? (void *)(children + n) : NULL;

	if (!sup)
		return NULL;
	for (i = 0; i < n; i++) {
		snprintf(names[i].text, sizeof names[i].text, "%s/%u", spec->name, i);
		children[i] = spec->children[0];
		children[i].name = names[i].text;
		children[i].id = names[i].text + strlen(spec->name) + 1;
	}
	*sup = *spec;
	sup->partitions = 0;
	sup->children = children;
	sup->n_children = n;
	atomic_store(&proc.slot->user, n);
	return sup;
}

uint32_t cop_partition_count(const char *name)
{
	struct seg_slot *p;

	PROC_REQUIRE();
	p = seg_slot_of(&proc.seg, cop_whereis(name).id);
	return p && (p->flags & SEG_IS_SUPERVISOR) ? atomic_load(&p->user) : 0;
}

cop_pid cop_partition_of(const char *name, uint64_t key)
{
	char part[COP_NAME_MAX + 12];
	uint32_t n;

	PROC_REQUIRE();
	n = cop_partition_count(name);
	if (n == 0)
		return COP_NOPID;
	snprintf(part, sizeof part, "%s/%u", name, (uint32_t)(key % n));
	return cop_whereis(part);
}

uint64_t cop_partition_hash(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325ull;

	for (; len > 0; len--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h ^ h >> 32;
}

long cop_partition(void)
{
	PROC_REQUIRE();
	return (proc.slot->flags & SEG_IS_SUPERVISOR) ? -1 : (long)atomic_load(&proc.slot->user) - 1;
}
