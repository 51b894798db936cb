/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Errors of a configuration: collected while it is read, shown in one go, in the order of the
 * files and their lines. What a user wrote comes back in messages with control characters
 * escaped, so that one error stays one line whatever the file holds. Parser process.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fds.h"
#include "base/text.h"
#include "node/config_private.h"

#define ERRORS_MAX 1000   /* shown; a broken generator need not fill a terminal's history */
#define TEXT_MAX 2048     /* of one message */

struct conf_pos conf_pos(const config_setting_t *s)
{
	const struct conf_doc *doc = (const void *)s->config;
	size_t line = s->line;

	/* The root of a document has no line: it is the document's first file. */
	if (line == 0 || line > doc->n_lines)
		return (struct conf_pos){ doc->n_lines > 0 ? doc->lines[0].file : 0, 0 };
	return doc->lines[line - 1];
}

uint32_t conf_error_file(struct conf *c, const char *name)
{
	size_t i;

	for (i = 0; i < c->n_files; i++)
		if (strcmp(c->files[i], name) == 0)
			return (uint32_t)i;
	c->files = conf_realloc(c->files, (c->n_files + 1) * sizeof(*c->files));
	c->files[c->n_files] = conf_strdup(name);
	return (uint32_t)c->n_files++;
}

static bool is_known(const struct conf *c, struct conf_pos pos, const char *text)
{
	size_t i = c->n_errors;

	/* The same complaint comes again from the next instance of a child, soon after. */
	while (i > 0 && c->n_errors - i < 16) {
		const struct conf_error *e = &c->errors[--i];

		if (e->pos.file == pos.file && e->pos.line == pos.line && strcmp(e->text, text) == 0)
			return true;
	}
	return false;
}

__attribute__((format(printf, 3, 0)))
static void add(struct conf *c, struct conf_pos pos, const char *fmt, va_list ap)
{
	char raw[TEXT_MAX], text[TEXT_MAX * 4];

	vsnprintf(raw, sizeof raw, fmt, ap);
	text_escape(raw, strlen(raw), text, sizeof text);
	if (is_known(c, pos, text))
		return;
	if (c->n_errors == c->cap_errors) {
		c->cap_errors = c->cap_errors * 2 + 16;
		c->errors = conf_realloc(c->errors, c->cap_errors * sizeof(*c->errors));
	}
	c->errors[c->n_errors++] = (struct conf_error){ pos, conf_strdup(text) };
}

void conf_error(struct conf *c, const config_setting_t *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(c, conf_pos(at), fmt, ap);
	va_end(ap);
}

void conf_error_pos(struct conf *c, struct conf_pos pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(c, pos, fmt, ap);
	va_end(ap);
}

const char *conf_place(const struct conf *c, struct conf_pos from, struct conf_pos pos)
{
	if (c->prefix)
		return "another word";
	if (from.file == pos.file)
		return conf_printf("line %u", pos.line);
	return conf_printf("%s:%u", c->files[pos.file], pos.line);
}

static void write_one(const struct conf *c, const struct conf_error *e, struct conf_buf *b)
{
	const char *file = c->n_files > 0 ? c->files[e->pos.file] : c->file;
	char name[TEXT_MAX];

	if (c->prefix) {
		conf_buf_puts(b, c->prefix);
	} else {
		conf_buf_puts(b, text_escape(file, strlen(file), name, sizeof name));
		if (e->pos.line > 0) {
			snprintf(name, sizeof name, ":%u", e->pos.line);
			conf_buf_puts(b, name);
		}
	}
	conf_buf_puts(b, ": ");
	conf_buf_puts(b, e->text);
	conf_buf_puts(b, "\n");
}

static int order(const void *a, const void *b)
{
	const struct conf_error *const *x = a, *const *y = b;

	if ((*x)->pos.file != (*y)->pos.file)
		return (*x)->pos.file < (*y)->pos.file ? -1 : 1;
	if ((*x)->pos.line != (*y)->pos.line)
		return (*x)->pos.line < (*y)->pos.line ? -1 : 1;
	return *x < *y ? -1 : *x > *y; /* as they were found: all stand in one array */
}

void conf_error_write(const struct conf *c, int fd)
{
	const struct conf_error **v = conf_alloc(c->n_errors * sizeof(*v));
	struct conf_buf b = { 0 };
	size_t i;

	for (i = 0; i < c->n_errors; i++)
		v[i] = &c->errors[i];
	qsort(v, c->n_errors, sizeof(*v), order);
	for (i = 0; i < c->n_errors && i < ERRORS_MAX; i++)
		write_one(c, v[i], &b);
	if (c->n_errors > ERRORS_MAX) {
		const char *more = conf_printf("%zu more errors are not shown", c->n_errors - ERRORS_MAX);
		struct conf_error rest = { { 0, 0 }, conf_strdup(more) };

		write_one(c, &rest, &b);
	}
	if (b.len > 0)
		(void)fds_write_all(fd, b.data, b.len); /* a reader that has gone away needs no errors any more */
	conf_free(b.data);
	conf_free(v);
}
