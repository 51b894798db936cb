/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Becoming another user for good: groups, group, user, each checked, then a try to come back that
 * must fail. Any doubt means that the program does not run. With a user other than root, no
 * program that it executes can gain privileges any more (no_new_privs); root's own services keep
 * that freedom. Runs in the child: raw system calls, static memory that nobody else uses.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/raw.h"

/* On some 32-bit machines the plain names are calls with 16-bit numbers. */
#ifdef SYS_setresuid32
#define NR(name) SYS_##name##32
#else
#define NR(name) SYS_##name
#endif

#define SAME ((uid_t)-1)

static bool holds(const gid_t *list, int n, gid_t g)
{
	int i;

	for (i = 0; i < n; i++)
		if (list[i] == g)
			return true;
	return false;
}

/* Whoever may not call setgroups is content if nothing would change by it. */
static bool groups_are(const gid_t *want, int n)
{
	static gid_t have[NGROUPS_MAX];
	int i, n_have = (int)raw2(NR(getgroups), NGROUPS_MAX, have);
	gid_t own = (gid_t)raw0(NR(getegid));

	if (n_have < 0)
		return false;
	for (i = 0; i < n; i++)
		if (!holds(have, n_have, want[i]) && want[i] != own)
			return false;
	for (i = 0; i < n_have; i++)
		if (!holds(want, n, have[i]) && have[i] != own)
			return false;
	return true;
}

static int set_groups(const struct spec_image *img, const struct spec_worker *w)
{
	static gid_t want[NGROUPS_MAX];
	uint32_t i;
	int err;

	if (!w->set_groups)
		return 0;
	if (w->groups.count > NGROUPS_MAX)
		return EINVAL;
	for (i = 0; i < w->groups.count; i++)
		want[i] = spec_list_num(img, &w->groups, i);
	err = raw_err(raw2(NR(setgroups), w->groups.count, want));
	return err == EPERM && groups_are(want, (int)w->groups.count) ? 0 : err;
}

static int set_group(const struct spec_worker *w)
{
	gid_t r = 0, e = 0, s = 0;
	int err;

	if (w->gid == SPEC_UNSET_ID)
		return 0;
	err = raw_err(raw3(NR(setresgid), w->gid, w->gid, w->gid));
	if (err != 0)
		return err;
	if (raw3(NR(getresgid), &r, &e, &s) < 0 || r != w->gid || e != w->gid || s != w->gid)
		return EPERM;
	return 0;
}

static int set_user(const struct spec_worker *w)
{
	uid_t r = 0, e = 0, s = 0;
	int err;

	if (w->uid == SPEC_UNSET_ID)
		return 0;
	raw4(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0); /* before Linux 4.3 there are none */
	err = raw_err(raw3(NR(setresuid), w->uid, w->uid, w->uid));
	if (err != 0)
		return err;
	if (raw3(NR(getresuid), &r, &e, &s) < 0 || r != w->uid || e != w->uid || s != w->uid)
		return EPERM;
	return 0;
}

/* Tries every way back to root and to a group that was left. */
static int prove(const struct spec_worker *w, gid_t old_gid)
{
	if (w->uid == SPEC_UNSET_ID || w->uid == 0)
		return 0;
	if (raw3(NR(setresuid), 0, 0, 0) == 0 || raw3(NR(setresuid), SAME, 0, SAME) == 0)
		return EPERM;
	if (w->gid != SPEC_UNSET_ID && w->gid != old_gid && raw3(NR(setresgid), old_gid, old_gid, old_gid) == 0)
		return EPERM;
	return raw_err(raw4(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0));
}

int exec_privileges(const struct spec_image *img, const struct spec_worker *w, enum exec_step *step_r)
{
	gid_t old_gid = (gid_t)raw0(NR(getegid));
	int err;

	*step_r = EXEC_STEP_GROUPS;
	err = set_groups(img, w);
	if (err != 0)
		return err;
	*step_r = EXEC_STEP_GROUP;
	err = set_group(w);
	if (err != 0)
		return err;
	*step_r = EXEC_STEP_USER;
	err = set_user(w);
	if (err != 0)
		return err;
	*step_r = EXEC_STEP_PRIVILEGES;
	return prove(w, old_gid);
}
