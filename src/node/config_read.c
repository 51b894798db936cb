/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Documents: a file is opened, scanned (config_scan.c) and parsed by libconfig, which sees text
 * in memory and opens nothing. A syntax error ends a document, and is said with the library's
 * line and, where the scanner saw what is behind it, with the cause. The configuration is
 * document 0; each file that its `include` list finds is one more. Parser process.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/config_private.h"

/* --- syntax errors --- */

/* The line of the text, without blanks around it and cut. */
static const char *quote_line(const struct conf_doc *doc, size_t line)
{
	const char *p = doc->text.data, *end = p + doc->text.len, *nl;
	size_t i;

	for (i = 1; i < line && p < end; i++) {
		nl = memchr(p, '\n', (size_t)(end - p));
		p = nl ? nl + 1 : end;
	}
	p += strspn(p, " \t");
	i = strcspn(p, "\n");
	while (i > 0 && p[i - 1] == ' ')
		i--;
	return conf_printf("%.*s%s", i > 60 ? 57 : (int)i, p, i > 60 ? "..." : "");
}

static const char *cause(const struct conf *c, const struct conf_doc *doc, size_t line,
    struct conf_pos pos, const struct conf_scan_hint *h)
{
	const char *text;

	if (h->word[0] != '\0' && h->word_pos.file == pos.file && h->word_pos.line <= pos.line &&
	    h->word_pos.line + 1 >= pos.line)
		return conf_printf("at `%s`: it is neither a key, followed by =, nor a value "
		    "(strings are written in quotes)", h->word);
	if (h->long_string.line != 0 && h->long_string.file == pos.file && h->long_string.line <= pos.line)
		return conf_printf("after the string that begins in %s and goes over several lines; "
		    "is its end missing?", conf_place(c, (struct conf_pos){ pos.file, 0 }, h->long_string));
	if (h->bracket[0] != '\0')
		return conf_printf(": %s", h->bracket);
	text = quote_line(doc, line);
	if (h->comma[0] != '\0' && h->comma_pos.file == pos.file && h->comma_pos.line == pos.line)
		return conf_printf("at `%s`: %s", text, h->comma);
	return text[0] != '\0' ? conf_printf("at `%s`", text) : "at the end of the file";
}

static void syntax_error(struct conf *c, struct conf_doc *doc, const struct conf_scan_hint *h)
{
	const char *text = config_error_text(&doc->cfg), *why;
	size_t line = config_error_line(&doc->cfg) > 0 ? (size_t)config_error_line(&doc->cfg) : 1;
	struct conf_pos pos;

	if (line > doc->n_lines)
		line = doc->n_lines;
	pos = doc->lines[line - 1];
	if (text && strstr(text, "mismatched element type")) {
		conf_error_pos(c, pos, "an array [ ... ] holds values of one type; a list ( ... ) may mix them");
		return;
	}
	why = cause(c, doc, line, pos, h);
	conf_error_pos(c, pos, "%s%s%s", text ? text : "syntax error", why[0] == ':' ? "" : " ", why);
}

/* --- documents --- */

/* Takes the last document away again. */
static void drop(struct conf *c)
{
	config_destroy(&c->docs[--c->n_docs]->cfg);
}

/* Scans and parses text as one more document. NULL after errors that leave nothing to look at. */
static struct conf_doc *add_document(struct conf *c, const char *name, const struct conf_found *found,
    const char *text, size_t len)
{
	struct conf_doc *doc = conf_alloc(sizeof(*doc));
	size_t errors = c->n_errors;
	struct conf_scan_hint hint;
	bool ok;

	config_init(&doc->cfg);
	c->docs = conf_realloc(c->docs, (c->n_docs + 1) * sizeof(struct conf_doc *));
	c->docs[c->n_docs++] = doc;
	conf_scan(c, doc, name, found, text, len, &hint);
	ok = !hint.fatal && config_read_string(&doc->cfg, doc->text.data) == CONFIG_TRUE;
	/* What the scanner found wrong is most often the reason. */
	if (!ok && c->n_errors == errors)
		syntax_error(c, doc, &hint);
	if (ok)
		return doc;
	drop(c);
	return NULL;
}

struct conf_doc *conf_read_text(struct conf *c, const char *name, const char *text, size_t len)
{
	return add_document(c, name, NULL, text, len);
}

/* --- the configuration --- */

/* An error about the file itself. */
static int file_error(struct conf *c, const char *what, const char *why)
{
	conf_error_pos(c, (struct conf_pos){ conf_error_file(c, c->file), 0 }, "%s%s", what, why);
	return -1;
}

int conf_read_main_text(struct conf *c, const char *text, size_t len)
{
	struct conf_found found = { .fd = -1 };
	char why[CONF_WHY_MAX];

	c->home = conf_safe_home(c->file, why);
	if (!c->home)
		return file_error(c, "unable to open: ", why);
	return add_document(c, c->file, &found, text, len) ? 0 : -1;
}

int conf_read_main(struct conf *c)
{
	struct conf_found found;
	struct conf_buf b = { 0 };
	char why[CONF_WHY_MAX];

	if (conf_safe_open(c->file, &found, why) < 0)
		return file_error(c, strncmp(why, "refused", 7) == 0 ? "" : "unable to open: ", why);
	if (conf_safe_slurp(&found, CONF_TEXT_MAX, &b, why) < 0)
		return file_error(c, "", why);
	c->home = conf_safe_home(c->file, why);
	if (!c->home)
		return file_error(c, "unable to open: ", why);
	return add_document(c, c->file, &found, b.data, b.len) ? 0 : -1;
}

/* --- the list of patterns --- */

/* The directory of the configuration as the user typed it, with a slash, or "". */
static char *typed_dir(const struct conf *c)
{
	const char *slash = strrchr(c->file, '/');

	return slash ? conf_printf("%.*s", (int)(slash - c->file) + 1, c->file) : conf_strdup("");
}

/* A glob's pattern: the directory's own name matches itself only. */
static char *pattern_below(const char *dir, const char *pattern)
{
	struct conf_buf b = { 0 };

	for (; pattern[0] != '/' && *dir; dir++) {
		if (strchr("*?[]\\", *dir))
			conf_buf_add(&b, "\\", 1);
		conf_buf_add(&b, dir, 1);
	}
	conf_buf_puts(&b, pattern);
	return b.data;
}

static bool is_read(const struct conf_found *found, struct conf_map *seen)
{
	char *key = conf_printf("%ju:%ju", (uintmax_t)found->dev, (uintmax_t)found->ino);

	return conf_map_put(seen, key, (struct conf_pos){ 0, 0 }) != NULL;
}

static void read_part(struct conf *c, const config_setting_t *at, const char *path, struct conf_map *seen)
{
	struct conf_found found;
	struct conf_buf b = { 0 };
	char why[CONF_WHY_MAX];
	int r = conf_safe_open(path, &found, why);

	if (r == 0 && !conf_safe_inside(c->home, found.real)) {
		snprintf(why, sizeof why, "refused: it is outside the configuration's directory");
		r = -1;
	}
	if (r == 0 && is_read(&found, seen)) {
		conf_safe_close(&found); /* another pattern matched it already */
		return;
	}
	if (r == 0)
		r = conf_safe_slurp(&found, CONF_TEXT_MAX, &b, why);
	else
		conf_safe_close(&found);
	if (r < 0)
		conf_error(c, at, "unable to include %s: %s", path, why);
	else
		add_document(c, path, &found, b.data, b.len);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_matches(struct conf *c, const config_setting_t *at, const char *pattern, struct conf_map *seen)
{
	glob_t g;
	size_t i;
	int r = glob(pattern_below(typed_dir(c), pattern), GLOB_NOSORT | GLOB_ERR, NULL, &g);

	if (r == GLOB_ABORTED && errno == ENOENT)
		r = GLOB_NOMATCH; /* of a directory that is not there */
	if (r == GLOB_NOMATCH && !strpbrk(pattern, "*?["))
		conf_error(c, at, "unable to include %s: %s", pattern, strerror(ENOENT));
	else if (r != 0 && r != GLOB_NOMATCH)
		conf_error(c, at, "unable to look up %s: %s", pattern, strerror(errno));
	if (r != 0)
		return;
	qsort(g.gl_pathv, g.gl_pathc, sizeof(char *), by_name);
	for (i = 0; i < g.gl_pathc; i++)
		read_part(c, at, g.gl_pathv[i], seen);
	globfree(&g);
}

void conf_read_parts(struct conf *c)
{
	config_setting_t *list = conf_get(config_root_setting(&c->docs[0]->cfg), "include");
	struct conf_map *seen = conf_map_create();
	int i, n = list ? config_setting_length(list) : 0;

	for (i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);
		const char *pattern = config_setting_get_string(e);

		if (pattern && pattern[0] != '\0')
			read_matches(c, e, pattern, seen);
		else
			conf_error(c, e, "`include` has an empty pattern");
	}
}
