/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What can be asked of the parser (config.h): a file, a child given in words, a command. Each is
 * a job that config_proc.c runs in the parser process; the calls here wait for it. Below the line
 * "in the parser process" nothing else runs; above it nothing allocates.
 */
#include "node/config.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/text.h"
#include "node/config_private.h"

static int run_job(void *ctx, int memfd, int err_fd)
{
	return conf_job_run(ctx, memfd, err_fd);
}

static int run(const char *label, struct conf_job *job, int err_fd)
{
	return conf_proc_run(label, run_job, job, CONF_PROC_TIMEOUT_MS, err_fd);
}

int config_load(const char *file, uint32_t generation, int err_fd)
{
	struct conf_job job = { .kind = CONF_JOB_FILE, .generation = generation, .file = file };

	return run(file, &job, err_fd);
}

int config_load_child(const char *parent_path, const char *const *keys, const char *const *argv,
    uint32_t generation, int err_fd)
{
	struct conf_job job = { .kind = CONF_JOB_CHILD, .generation = generation,
		.parent_path = parent_path, .keys = keys, .argv = argv };

	return run("add", &job, err_fd);
}

int config_load_command(const char *node, const char *restart, const char *const *argv, int err_fd)
{
	struct conf_job job = { .kind = CONF_JOB_COMMAND, .node = node, .restart = restart, .argv = argv };

	return run("run", &job, err_fd);
}

int config_check(const char *file, int out_fd, int err_fd)
{
	struct spec_image img;
	char name[PATH_MAX], line[PATH_MAX + 256];
	int n, fd = config_load(file, 0, err_fd);

	if (fd < 0)
		return 78;
	if (spec_open(&img, fd) < 0) {
		fds_close(&fd);
		return 78;
	}
	n = snprintf(line, sizeof line, "%s: ok: %u children, %u supervisors, at most %" PRIu64
	    " restarts in %u s before the node gives up\n", text_escape(file, strlen(file), name, sizeof name),
	    img.h->n_children, img.h->n_supervisors, conf_bound(&img), spec_top(&img)->flags.max_seconds);
	spec_close(&img);
	return fds_write_all(out_fd, line, (size_t)n) < 0 ? 1 : 0;
}

/* --- in the parser process --- */

/* The file as an absolute path, for the next reload; its links stay unresolved. */
static const char *absolute(const char *file)
{
	char cwd[PATH_MAX];

	if (file[0] == '/' || !getcwd(cwd, sizeof cwd))
		return file;
	return conf_printf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, file);
}

static bool is_node_name(const char *s)
{
	return text_is_id(s) && strlen(s) < SPEC_NODE_MAX;
}

/* The node's name: as given, or the file's without .conf. NULL after an error. */
static const char *node_name(struct conf *c)
{
	const config_setting_t *root = config_root_setting(&c->docs[0]->cfg), *at = conf_get(root, "node");
	const char *slash = strrchr(c->file, '/'), *base = slash ? slash + 1 : c->file;
	size_t len = strlen(base);
	char *name;

	if (conf_has(root, "node")) {
		if (at && !is_node_name(config_setting_get_string(at)))
			conf_error(c, at, "`node` is \"%s\"; it must be 1 to %d letters, digits and _ . @ -, "
			    "and begin with a letter, a digit or _", config_setting_get_string(at), SPEC_NODE_MAX - 1);
		return at ? config_setting_get_string(at) : NULL;
	}
	if (len > 5 && strcmp(base + len - 5, ".conf") == 0)
		len -= 5;
	name = conf_printf("%.*s", (int)len, base);
	if (!is_node_name(name))
		conf_error_pos(c, (struct conf_pos){ 0, 1 },
		    "the file's name cannot be the node's name (\"%s\"); add node = \"NAME\"", name);
	return name;
}

static void read_file(struct conf *c)
{
	size_t i;

	conf_keys_check(c, config_root_setting(&c->docs[0]->cfg), WHERE_FILE);
	conf_read_parts(c);
	for (i = 1; i < c->n_docs; i++)
		conf_keys_check(c, config_root_setting(&c->docs[i]->cfg), WHERE_PART);
}

static void job_init(struct conf *c, const char *file, const char *prefix)
{
	*c = (struct conf){ .file = file, .prefix = prefix };
	conf_image_init(&c->img);
	c->paths = conf_map_create();
	c->log_dirs = conf_map_create();
	c->names = conf_map_create();
}

static void header(struct conf *c, const char *node, const char *file, uint32_t top, uint32_t generation)
{
	struct spec_header h = { .generation = generation, .top = top, .n_children = c->n_children,
		.n_supervisors = c->n_supervisors, .n_sockets = (uint32_t)c->n_listens };

	h.node = conf_image_str(&c->img, node);
	h.file = conf_image_str(&c->img, file);
	h.sockets = conf_sockets_write(c);
	memcpy(conf_image_at(&c->img, 0), &h, sizeof h);
}

/* Hands over the image, or the errors. */
static int job_end(struct conf *c, int memfd, int err_fd)
{
	int status = CONF_EXIT_OK;

	if (c->n_errors == 0 && conf_image_write(&c->img, memfd) < 0)
		conf_error_pos(c, (struct conf_pos){ 0, 0 }, "unable to write the image: %s", strerror(errno));
	if (c->n_errors > 0) {
		conf_error_write(c, err_fd);
		status = CONF_EXIT_ERRORS;
	}
	while (c->n_docs > 0)
		config_destroy(&c->docs[--c->n_docs]->cfg);
	conf_memory_release();
	return status;
}

/* What is done once the text of a configuration was read. */
static void file_semantics(struct conf *c, uint32_t generation)
{
	const char *node;
	uint32_t top;

	read_file(c);
	node = node_name(c);
	top = conf_tree(c);
	if (c->n_errors == 0)
		header(c, node, absolute(c->file), top, generation);
}

static int file_job(const struct conf_job *job, int memfd, int err_fd)
{
	struct conf c;

	job_init(&c, job->file, NULL);
	if (conf_read_main(&c) == 0)
		file_semantics(&c, job->generation);
	return job_end(&c, memfd, err_fd);
}

int conf_job_run_text(const char *file, const char *text, size_t len, int memfd, int err_fd)
{
	struct conf c;

	job_init(&c, file, NULL);
	if (conf_read_main_text(&c, text, len) == 0)
		file_semantics(&c, 0);
	return job_end(&c, memfd, err_fd);
}

static int child_job(const struct conf_job *job, int memfd, int err_fd)
{
	struct conf_doc *doc;
	struct conf c;
	uint32_t top;
	char *text;

	job_init(&c, NULL, "add");
	text = conf_words_text(&c, job->keys, job->argv);
	doc = conf_read_text(&c, "add", text, strlen(text));
	if (doc) {
		top = conf_tree_one(&c, config_setting_get_member(config_root_setting(&doc->cfg), "child"),
		    job->parent_path);
		header(&c, "add", NULL, top, job->generation);
	}
	return job_end(&c, memfd, err_fd);
}

/* The configuration that a command stands for. */
static char *command_text(const struct conf_job *job)
{
	struct conf_buf b = { 0 };
	bool ends_node = !job->restart || strcmp(job->restart, "permanent") != 0;

	conf_buf_puts(&b, conf_printf("supervisor = { auto_shutdown = \"%s\"\nchildren = ( { id = \"%s\"\n",
	    ends_node ? "any_significant" : "never", conf_words_id(job->argv[0])));
	conf_buf_puts(&b, conf_printf("restart = \"%s\"\nsignificant = %s\nlog = \"inherit\"\n",
	    job->restart ? job->restart : "temporary", ends_node ? "true" : "false"));
	conf_words_command(&b, job->argv);
	conf_buf_puts(&b, "} ) }\n");
	return b.data;
}

/* The worker of the only child takes over the terminal and what PID 1 would do for it. */
static void set_foreground(struct conf *c, uint32_t top)
{
	const struct spec_child *sup = conf_image_at(&c->img, top);
	struct spec_child *child = conf_image_at(&c->img, sup->first);

	child->worker.foreground = 1;
	child->worker.kill_orphans_softly = 1;
}

static int command_job(const struct conf_job *job, int memfd, int err_fd)
{
	struct conf c;
	uint32_t top;
	char *text;

	job_init(&c, NULL, "run");
	text = command_text(job);
	if (conf_read_text(&c, "run", text, strlen(text))) {
		top = conf_tree(&c);
		if (job->node && !is_node_name(job->node))
			conf_error_pos(&c, (struct conf_pos){ 0, 0 }, "\"%s\" cannot be a node's name", job->node);
		if (c.n_errors == 0) {
			header(&c, job->node ? job->node : conf_words_id(job->argv[0]), NULL, top, 0);
			set_foreground(&c, top);
		}
	}
	return job_end(&c, memfd, err_fd);
}

int conf_job_run(const struct conf_job *job, int memfd, int err_fd)
{
	switch (job->kind) {
	case CONF_JOB_FILE:
		return file_job(job, memfd, err_fd);
	case CONF_JOB_CHILD:
		return child_job(job, memfd, err_fd);
	case CONF_JOB_COMMAND:
		return command_job(job, memfd, err_fd);
	}
	return CONF_EXIT_SYSTEM;
}
