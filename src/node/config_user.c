/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * As whom a worker runs. Names are resolved here, once, so that nothing between fork and exec
 * has to look anything up, and an unknown user is a configuration error instead of a process
 * that runs as root. Names that a careless reader could take for numbers are refused even where
 * the system has them: another tool once ran "0day" as user 0. Parser process.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/config_private.h"

#define NAME_BYTES_MAX 255

/* As useradd(8) would make it: a letter or _, then letters, digits, _ . -, perhaps a $ at the end. */
static bool is_account_name(const char *s)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-";
	size_t n = strspn(s, more);

	return s[0] != '\0' && strchr(letters, s[0]) && n <= NAME_BYTES_MAX &&
	    (s[n] == '\0' || (s[n] == '$' && s[n + 1] == '\0'));
}

static bool name_ok(struct conf *c, const config_setting_t *at, const char *what, const char *name)
{
	if (is_account_name(name))
		return true;
	conf_error(c, at, "\"%s\" is no name of a %s; names begin with a letter or _ and go on with letters, "
	    "digits and _ . - (numbers are not taken)", name, what);
	return false;
}

/* --- looking up --- */

static const struct passwd *find_user(struct conf *c, const config_setting_t *at, const char *name)
{
	const struct passwd *pw;

	if (!name_ok(c, at, "user", name))
		return NULL;
	errno = 0;
	pw = getpwnam(name);
	if (pw && pw->pw_uid != SPEC_UNSET_ID && pw->pw_gid != SPEC_UNSET_ID)
		return pw;
	if (pw)
		conf_error(c, at, "user \"%s\" has an id that is reserved", name);
	else if (errno != 0 && errno != ENOENT && errno != ESRCH && errno != EBADF && errno != EPERM)
		conf_error(c, at, "unable to look up user \"%s\": %s", name, strerror(errno));
	else
		conf_error(c, at, "there is no user \"%s\"", name);
	return NULL;
}

static bool find_group(struct conf *c, const config_setting_t *at, const char *name, uint32_t *gid_r)
{
	const struct group *gr;

	if (!name_ok(c, at, "group", name))
		return false;
	gr = getgrnam(name);
	if (gr && gr->gr_gid != SPEC_UNSET_ID) {
		*gid_r = gr->gr_gid;
		return true;
	}
	conf_error(c, at, "there is no group \"%s\"", name);
	return false;
}

/* --- one worker --- */

static void user_groups(const char *name, gid_t gid, struct conf_vec *v)
{
	int i, n = 64;
	gid_t *list = conf_alloc((size_t)n * sizeof(*list));

	while (getgrouplist(name, gid, list, &n) < 0)
		list = conf_realloc(list, (size_t)n * sizeof(*list));
	for (i = 0; i < n; i++)
		conf_vec_add(v, list[i]);
	conf_free(list);
}

static void named_groups(struct conf_scope *s, const config_setting_t *list, struct conf_vec *v)
{
	int i, n = config_setting_length(list);
	uint32_t gid;

	for (i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);

		if (find_group(s->c, e, config_setting_get_string(e), &gid))
			conf_vec_add(v, gid);
	}
}

/* Fills what `user` gives; false if there is none, or it is wrong. */
static bool user(struct conf_scope *s)
{
	const config_setting_t *at = conf_get(s->g, "user");
	struct conf_image *img = &s->c->img;
	struct spec_worker *w = &s->spec.worker;
	const struct passwd *pw = at ? find_user(s->c, at, config_setting_get_string(at)) : NULL;

	if (!pw)
		return false;
	w->uid = pw->pw_uid;
	w->gid = pw->pw_gid;
	w->user_name = conf_image_str(img, pw->pw_name);
	w->user_home = conf_image_str(img, pw->pw_dir && pw->pw_dir[0] ? pw->pw_dir : "/");
	w->user_shell = conf_image_str(img, pw->pw_shell && pw->pw_shell[0] ? pw->pw_shell : "/bin/sh");
	return true;
}

/* Without root's rights the only identity there is is one's own; it is not set then. */
static void without_root(struct conf_scope *s)
{
	struct spec_worker *w = &s->spec.worker;

	if (w->uid != SPEC_UNSET_ID && w->uid != geteuid())
		conf_error(s->c, conf_get(s->g, "user"), "only root may run a worker as another user");
	if (conf_get(s->g, "group") && w->gid != SPEC_UNSET_ID && w->gid != getegid())
		conf_error(s->c, conf_get(s->g, "group"), "only root may run a worker in another group");
	if (conf_get(s->g, "groups"))
		conf_error(s->c, conf_get(s->g, "groups"), "only root may choose a worker's groups");
	w->uid = w->gid = SPEC_UNSET_ID;
	w->set_groups = 0;
	w->groups = (struct spec_list){ 0, 0 };
}

void conf_identity(struct conf_scope *s)
{
	const config_setting_t *group = conf_get(s->g, "group"), *groups = conf_get(s->g, "groups");
	struct spec_worker *w = &s->spec.worker;
	struct conf_vec v = { 0 };
	bool has_user = user(s);

	if (group)
		find_group(s->c, group, config_setting_get_string(group), &w->gid);
	if (groups)
		named_groups(s, groups, &v);
	else if (has_user)
		user_groups(conf_get_str(s->g, "user"), w->gid, &v);
	else if (w->gid != SPEC_UNSET_ID)
		conf_vec_add(&v, w->gid);
	w->set_groups = has_user || w->gid != SPEC_UNSET_ID || groups;
	w->groups = conf_image_list(&s->c->img, &v);
	if (geteuid() != 0)
		without_root(s);
}
