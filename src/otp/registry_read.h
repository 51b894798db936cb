/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* How a process finds the partitions of a registry and their tables. */
#ifndef OTP_REGISTRY_READ_H
#define OTP_REGISTRY_READ_H

#include "otp/registry_private.h"

/* A partition as it was last seen. */
struct part {
	uint64_t id;             /* of its process; 0: not looked for yet */
	uint64_t word;           /* its slot.table */
	struct seg_slot *slot;
	struct table_view view;
};

struct known {
	char name[SEG_NAME];
	uint64_t supervisor;
	uint32_t n;              /* partitions */
	struct part *part;
};

/* A registry in use. */
struct reader {
	struct known *of;
	struct part *part;       /* of registry_part() */
};

/* Finds a registry. 0, or -1 with ENOENT or ENOMEM. */
int registry_open(struct reader *rd, const char *name);
/* Makes partition i's table the one that is read. False with ENOENT, EAGAIN (it is being started again) or EBADMSG. */
bool registry_part(struct reader *rd, uint32_t i);
/* Which partition has a key's entries; of a registry with duplicate keys, those of a process. */
uint32_t registry_part_of(struct reader *rd, const struct table_term *key, uint64_t pid, bool meta);
/* enum cop_keys, or -1 with errno. */
int registry_keys_of(const char *name);

#endif
