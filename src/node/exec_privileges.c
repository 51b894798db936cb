/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Becoming another user for good: groups, group, user, each checked, then a try to come back that
 * must fail. Any doubt means that the program does not run. With a user other than root, no
 * program that it executes can gain privileges any more (no_new_privs); root's own services keep
 * that freedom. Runs in the child; async-signal-safe calls only, static memory.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The system calls themselves: libc's wrappers would look after other threads, which do not exist. */
static int sys_setgroups(size_t n, const gid_t *list)
{
	return (int)syscall(SYS_setgroups, n, list);
}

static int sys_setresgid(gid_t r, gid_t e, gid_t s)
{
	return (int)syscall(SYS_setresgid, r, e, s);
}

static int sys_setresuid(uid_t r, uid_t e, uid_t s)
{
	return (int)syscall(SYS_setresuid, r, e, s);
}

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
	int i, n_have = getgroups(NGROUPS_MAX, have);

	if (n_have < 0)
		return false;
	for (i = 0; i < n; i++)
		if (!holds(have, n_have, want[i]) && want[i] != getegid())
			return false;
	for (i = 0; i < n_have; i++)
		if (!holds(want, n, have[i]) && have[i] != getegid())
			return false;
	return true;
}

static int set_groups(const struct spec_image *img, const struct spec_worker *w)
{
	static gid_t want[NGROUPS_MAX];
	uint32_t i;

	if (!w->set_groups)
		return 0;
	if (w->groups.count > NGROUPS_MAX)
		return EINVAL;
	for (i = 0; i < w->groups.count; i++)
		want[i] = spec_list_num(img, &w->groups, i);
	if (sys_setgroups(w->groups.count, want) == 0)
		return 0;
	return errno == EPERM && groups_are(want, (int)w->groups.count) ? 0 : errno == 0 ? EPERM : errno;
}

static int set_group(const struct spec_worker *w)
{
	gid_t r, e, s;

	if (w->gid == SPEC_UNSET_ID)
		return 0;
	if (sys_setresgid(w->gid, w->gid, w->gid) < 0)
		return errno;
	if (getresgid(&r, &e, &s) < 0 || r != w->gid || e != w->gid || s != w->gid)
		return EPERM;
	return 0;
}

static int set_user(const struct spec_worker *w)
{
	uid_t r, e, s;

	if (w->uid == SPEC_UNSET_ID)
		return 0;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* before Linux 4.3 there are none */
	if (sys_setresuid(w->uid, w->uid, w->uid) < 0)
		return errno;
	if (getresuid(&r, &e, &s) < 0 || r != w->uid || e != w->uid || s != w->uid)
		return EPERM;
	return 0;
}

/* Tries every way back to root and to a group that was left. */
static int prove(const struct spec_worker *w, gid_t old_gid)
{
	if (w->uid == SPEC_UNSET_ID || w->uid == 0)
		return 0;
	if (sys_setresuid(0, 0, 0) == 0 || sys_setresuid((uid_t)-1, 0, (uid_t)-1) == 0)
		return EPERM;
	if (w->gid != SPEC_UNSET_ID && w->gid != old_gid && sys_setresgid(old_gid, old_gid, old_gid) == 0)
		return EPERM;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return errno;
	return 0;
}

int exec_privileges(const struct spec_image *img, const struct spec_worker *w, enum exec_step *step_r)
{
	gid_t old_gid = getegid();
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
