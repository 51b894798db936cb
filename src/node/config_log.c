/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Where a worker's output goes. A log directory has one writer that renames files in it, so two
 * workers cannot share one. Parser process.
 */
#include <string.h>

#include "node/config_private.h"

#define LOG_DIR_MAX 4000 /* bytes: the names of the files in it still fit into a path */
#define LOG_BYTES_MIN 4096

/* Removes doubled and trailing slashes, so that equal directories are equal strings. */
static char *normal_path(const char *path)
{
	char *r = conf_strdup(path), *to = r;

	for (; *path; path++)
		if (*path != '/' || (path[1] != '/' && path[1] != '\0'))
			*to++ = *path;
	*to = '\0';
	return r;
}

static void directory(struct conf_scope *s, const config_setting_t *g)
{
	const config_setting_t *at = conf_get(g, "file");
	const char *dir = conf_get_str(g, "file");
	const struct conf_pos *first;

	if (!dir)
		return;
	dir = conf_expand(s, dir);
	if (!conf_path_ok(s->c, at, "`file`", dir, LOG_DIR_MAX))
		return;
	dir = normal_path(dir);
	first = conf_map_put(s->c->log_dirs, dir, conf_pos(at));
	if (first && s->instance > 0)
		conf_error(s->c, at, "`file` is the same directory for all instances; write %%i where their "
		    "numbers are to stand");
	else if (first)
		conf_error(s->c, at, "the log directory %s is already that of another worker, in %s", dir,
		    conf_place(s->c, conf_pos(at), *first));
	s->spec.worker.log_dir = conf_image_str(&s->c->img, dir);
}

static void kept(struct conf_scope *s, config_setting_t *g)
{
	struct spec_worker *w = &s->spec.worker;

	conf_keys_check(s->c, g, WHERE_LOG);
	directory(s, g);
	w->log_max_bytes = (uint64_t)conf_get_int(g, "max_bytes", (int64_t)w->log_max_bytes);
	w->log_max_files = (uint32_t)conf_get_int(g, "max_files", w->log_max_files);
	w->log_timestamps = conf_get_bool(g, "timestamps", false);
	if (w->log_max_bytes > 0 && w->log_max_bytes < LOG_BYTES_MIN)
		conf_error(s->c, conf_get(g, "max_bytes"), "`max_bytes` is %llu; it must be 0 (no rotation) or "
		    "at least %d", (unsigned long long)w->log_max_bytes, LOG_BYTES_MIN);
}

void conf_log(struct conf_scope *s)
{
	config_setting_t *log = conf_get(s->g, "log");
	const char *word = conf_get_str(s->g, "log");

	if (word)
		s->spec.worker.log = strcmp(word, "null") == 0 ? SPEC_LOG_NULL : SPEC_LOG_INHERIT;
	else if (log)
		kept(s, log);
}
