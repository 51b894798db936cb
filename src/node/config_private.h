/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the files of the parser share. All of it runs in the parser process (config_proc.c) and
 * nowhere else, under one regime: memory is taken as needed and given back by the end of the
 * process; without memory the process ends with CONF_EXIT_MEMORY and its parent says so.
 *
 * The way of a file: config_safe.c finds and opens it, config_scan.c turns it and what it
 * includes into one text, config_read.c has libconfig parse that, config_keys.c checks every key
 * against one table, config_child.c and its helpers give the keys their meaning and write
 * spec.h's structs with config_image.c. Errors are collected on the way by config_error.c.
 *
 * Names begin with conf_, since config_ is libconfig's.
 */
#ifndef NODE_CONFIG_PRIVATE_H
#define NODE_CONFIG_PRIVATE_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "node/spec.h"

#define CONF_CHILDREN_MAX 100000      /* workers and supervisors below the top */
#define CONF_TEXT_MAX (32u << 20)     /* bytes of one configuration with all it includes */
#define CONF_ENV_FILE_MAX (1u << 20)  /* bytes of one env_file */
#define CONF_INCLUDE_DEPTH 16
#define CONF_INSTANCES_MAX 10000

/* Exit statuses of the parser process. 2 is also libconfig's, when its scanner runs out of memory. */
enum { CONF_EXIT_OK, CONF_EXIT_ERRORS, CONF_EXIT_MEMORY, CONF_EXIT_SYSTEM };

/* A place in a file. */
struct conf_pos {
	uint32_t file; /* index of conf.files */
	uint32_t line; /* 0: the file as a whole */
};

struct conf_error {
	struct conf_pos pos;
	char *text;
};

/* --- config_memory.c: never NULL --- */
void conf_memory_release(void); /* all that was ever allocated here */
void *conf_alloc(size_t size); /* zeroed */
void *conf_realloc(void *p, size_t size);
void conf_free(void *p); /* NULL is allowed */
char *conf_strdup(const char *s);
char *conf_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct conf_buf { /* growing bytes; always followed by a NUL once anything was added */
	char *data;
	size_t len, cap;
};
void conf_buf_add(struct conf_buf *b, const char *s, size_t len);
void conf_buf_puts(struct conf_buf *b, const char *s);

struct conf_vec { /* growing numbers */
	uint32_t *v;
	size_t n, cap;
};
void conf_vec_add(struct conf_vec *vec, uint32_t v);

struct conf_map; /* strings -> places */
struct conf_map *conf_map_create(void);
/* Enters key, unless it is there: then returns where it was entered first, else NULL. */
const struct conf_pos *conf_map_put(struct conf_map *m, const char *key, struct conf_pos pos);

/* --- config_image.c: an image while it grows. Offsets stay valid, pointers do not. --- */
struct conf_image {
	char *buf;
	size_t len, cap;
	uint32_t *strings;          /* hash table of string offsets */
	size_t n_strings, n_slots;
	bool full;                  /* more than an image may hold was asked for */
};
void conf_image_init(struct conf_image *img);
/* Offset of size zeroed bytes. */
uint32_t conf_image_reserve(struct conf_image *img, size_t size, size_t align);
/* The object at an offset, until the image grows again. */
void *conf_image_at(struct conf_image *img, uint32_t off);
/* Offset of a string; equal strings are stored once; 0 for NULL. */
spec_str conf_image_str(struct conf_image *img, const char *s);
struct spec_list conf_image_list(struct conf_image *img, const struct conf_vec *v);
/* Ends the image, writes it to a memfd and seals that. 0, or -1 with errno. */
int conf_image_write(struct conf_image *img, int memfd);

/* --- the configuration as a whole --- */
struct conf_doc {             /* one text that libconfig parsed */
	config_t cfg;               /* first, so that a setting's config leads back here */
	struct conf_buf text;     /* with everything included */
	struct conf_pos *lines;   /* where each line of the text comes from */
	size_t n_lines, cap_lines;
};

struct conf_listen;           /* config_socket.c */

struct conf {
	const char *file;           /* as the user typed it; NULL for words and commands */
	const char *prefix;         /* instead of FILE:LINE in errors, or NULL */
	char *home;                 /* canonical directory of the configuration */
	char **files;               /* names of files, as shown */
	size_t n_files;
	struct conf_doc **docs;   /* [0] is the configuration, the others were included by glob */
	size_t n_docs;
	struct conf_error *errors;
	size_t n_errors, cap_errors;
	struct conf_image img;
	struct conf_map *paths;   /* of children */
	struct conf_map *log_dirs;
	struct conf_map *names;   /* of servers */
	struct conf_listen *listens;
	size_t n_listens;
	uint32_t n_children, n_supervisors;
	bool too_many;              /* children; was said */
};

/* --- config_error.c --- */
struct conf_pos conf_pos(const config_setting_t *s);
void conf_error(struct conf *c, const config_setting_t *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void conf_error_pos(struct conf *c, struct conf_pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "line 12", or "FILE:12" if that is another file than from's. */
const char *conf_place(const struct conf *c, struct conf_pos from, struct conf_pos pos);
/* Gives a file a number for errors' places; the same name gets the same number. */
uint32_t conf_error_file(struct conf *c, const char *name);
/* Writes all errors, sorted by place, one line each. */
void conf_error_write(const struct conf *c, int fd);

/* --- config_safe.c --- */
#define CONF_WHY_MAX 1024
struct conf_found {
	int fd;        /* open for reading */
	char *real;    /* canonical path */
	dev_t dev;
	ino_t ino;
};
/* Opens a regular file that nobody but root and this user could have written or put there. -1: why
 * has the reason as a phrase. */
int conf_safe_open(const char *path, struct conf_found *found_r, char why[CONF_WHY_MAX]);
/* Tells whether there is no such file at all. */
bool conf_safe_missing(const char *path);
/* Canonical path of the directory in which path names a file; NULL as above. */
char *conf_safe_home(const char *path, char why[CONF_WHY_MAX]);
/* Tells whether a canonical path lies below a canonical directory. */
bool conf_safe_inside(const char *dir, const char *real);
void conf_safe_close(struct conf_found *found);
/* All of an open file, at most max bytes; -1 with why. Closes it. */
int conf_safe_slurp(struct conf_found *found, size_t max, struct conf_buf *b, char why[CONF_WHY_MAX]);

/* --- config_scan.c --- */
struct conf_scan_hint { /* what may be behind a syntax error */
	char bracket[128];              /* "" or what is wrong with brackets */
	char word[64];                  /* the first word that is no key, "" if there is none */
	struct conf_pos word_pos;
	char comma[64];                 /* "" or what is wrong with the first odd comma of a list */
	struct conf_pos comma_pos;
	struct conf_pos long_string;    /* the first string of several lines; line 0: none */
	bool fatal;                     /* the text ends inside something: parsing it has no sense */
};
/* Makes the document's text from a file's (and what that includes; found NULL: text of no file, which
 * must not include any). The file gets the next number in c->files. Errors are added to c. */
void conf_scan(struct conf *c, struct conf_doc *doc, const char *name, const struct conf_found *found,
    const char *text, size_t len, struct conf_scan_hint *hint_r);
/* Names of duplicate keys were replaced by this and a number, so that parsing goes on. */
#define CONF_DUPLICATE_PREFIX "*duplicate*"

/* --- config_read.c --- */
/* Reads and parses the configuration into c->docs[0]. -1: there is nothing to go on with; errors were added. */
int conf_read_main(struct conf *c);
/* The same with the file's text given; it is still the file that includes are relative to. */
int conf_read_main_text(struct conf *c, const char *text, size_t len);
/* Reads the files of its `include` list into c->docs[1...]. */
void conf_read_parts(struct conf *c);
/* Parses text in memory as a document. NULL: errors were added. */
struct conf_doc *conf_read_text(struct conf *c, const char *name, const char *text, size_t len);

/* --- config_keys.c --- */
enum conf_where {
	WHERE_FILE = 1 << 0,       /* top level of the configuration */
	WHERE_PART = 1 << 1,       /* top level of an included file */
	WHERE_TOP = 1 << 2,        /* the top supervisor */
	WHERE_WORKER = 1 << 3,
	WHERE_SUPERVISOR = 1 << 4,
	WHERE_DYNAMIC = 1 << 5,
	WHERE_BACKOFF = 1 << 6,
	WHERE_LIMITS = 1 << 7,
	WHERE_SOCKET = 1 << 8,
	WHERE_LOG = 1 << 9,
};
#define WHERE_CHILD (WHERE_WORKER | WHERE_SUPERVISOR | WHERE_DYNAMIC)

/* Checks every key of a group: known, allowed there, of the right type and range. What is wrong is
 * reported and marked; the getters below then take it for absent. */
void conf_keys_check(struct conf *c, config_setting_t *group, unsigned where);
/* The entry of a NULL-terminated table that was likely meant; NULL if there is none. */
const char *conf_keys_nearest(const char *word, const char *const *table);
/* Tells whether key only takes strings. */
bool conf_keys_is_string(const char *key);
/* Allowed values of a key, NULL-terminated; NULL if it has none. */
const char *const *conf_keys_values(const char *key, unsigned where);
/* Describes a setting's type: "an integer". */
const char *conf_keys_found(const config_setting_t *s);

/* Tells whether a setting, or an element of one, was found wrong. */
bool conf_is_marked(const config_setting_t *s);

/* --- config_value.c --- */
bool conf_has(const config_setting_t *group, const char *key); /* even if it is wrong */
config_setting_t *conf_get(const config_setting_t *group, const char *key);
int64_t conf_get_int(const config_setting_t *group, const char *key, int64_t def);
bool conf_get_bool(const config_setting_t *group, const char *key, bool def);
const char *conf_get_str(const config_setting_t *group, const char *key); /* NULL: absent, or no string */
/* Place of a string in the key's allowed values. */
int conf_get_choice(const config_setting_t *group, const char *key, unsigned where, int def);
bool conf_is_int(const config_setting_t *s);
int64_t conf_int(const config_setting_t *s);
/* Permission bits: an octal string, or a number written in octal. -1 after an error. */
int conf_get_octal(struct conf *c, const config_setting_t *group, const char *key, int def);

/* --- config_child.c: semantics of children --- */
struct conf_scope {          /* one child while it is being built */
	struct conf *c;
	config_setting_t *g;       /* its group */
	const char *id, *path;
	long instance;             /* number for %i, -1: none */
	struct spec_child spec;
};
/* The tree of c->docs; the offset of its top, 0 if there is none (errors were added). */
uint32_t conf_tree(struct conf *c);
/* The child that a group of c->docs[0] describes, as the only one of a supervisor at parent_path. */
uint32_t conf_tree_one(struct conf *c, config_setting_t *group, const char *parent_path);

/* More of config_value.c: */
/* A string with %i and %% replaced, if this child has a number. */
const char *conf_expand(const struct conf_scope *s, const char *str);
/* The same for a key that is an absolute path: NULL after an error or if it is absent. */
const char *conf_get_path(const struct conf_scope *s, const config_setting_t *group, const char *key);
/* Checks a path: absolute, shorter than max bytes. */
bool conf_path_ok(struct conf *c, const config_setting_t *at, const char *what, const char *path, size_t max);

/* --- parts of a worker: each fills scope->spec.worker --- */
void conf_worker(struct conf_scope *s);                 /* config_worker.c */
void conf_worker_defaults(struct spec_worker *w);
void conf_log(struct conf_scope *s);                    /* config_log.c */
void conf_identity(struct conf_scope *s);               /* config_user.c */
void conf_environment(struct conf_scope *s);            /* config_env.c */
void conf_ready(struct conf_scope *s);                  /* config_ready.c */
void conf_sockets(struct conf_scope *s);                /* config_socket.c */
void conf_server(struct conf_scope *s);                 /* config_server.c; the last */
uint32_t conf_sockets_write(struct conf *c);              /* offset of the array */

/* --- config_hash.c --- */
void conf_hash(const struct conf_image *img, struct spec_child *c, const struct conf_listen *listens);
const char *conf_listen_key(const struct conf_listen *l, uint32_t i);
const char *conf_listen_name(const struct conf_listen *l, uint32_t i);
uint32_t conf_listen_mode(const struct conf_listen *l, uint32_t i);

/* --- what a parser is asked for (config.c), and the process it runs in (config_proc.c) --- */
enum conf_job_kind { CONF_JOB_FILE, CONF_JOB_CHILD, CONF_JOB_COMMAND };
struct conf_job {
	enum conf_job_kind kind;
	uint32_t generation;
	const char *file;                 /* FILE */
	const char *parent_path;          /* CHILD */
	const char *const *keys;
	const char *node, *restart;       /* COMMAND */
	const char *const *argv;          /* CHILD, COMMAND */
};
/* Does the work: the image into memfd, or errors to err_fd. Returns CONFIG_EXIT_*. */
int conf_job_run(const struct conf_job *job, int memfd, int err_fd);
/* Does the work for a file's text in memory (for tests); includes are looked up from `file`. */
int conf_job_run_text(const char *file, const char *text, size_t len, int memfd, int err_fd);

typedef int conf_work_f(void *ctx, int memfd, int err_fd);
/* Runs work in a process of its own. Returns the sealed memfd, or -1 after errors went to err_fd; what the
 * process itself did wrong is reported as "LABEL: the parser failed: ...". */
int conf_proc_run(const char *label, conf_work_f *work, void *ctx, int timeout_ms, int err_fd);
#define CONF_PROC_TIMEOUT_MS 20000
#define CONF_PROC_CPU_SEC 10
#define CONF_PROC_MEMORY ((rlim_t)1 << 30)

/* --- config_words.c --- */
/* The text of a child's group from key=value words and a command; NULL after errors. */
char *conf_words_text(struct conf *c, const char *const *keys, const char *const *argv);
/* Appends `exec = ( ... )`. */
void conf_words_command(struct conf_buf *b, const char *const *argv);
/* An id from a program's name. */
char *conf_words_id(const char *program);

/* --- config_bound.c --- */
/* Restarts that can happen in the top's max_seconds before it gives up (coppice.conf(5), LIMITS OF A TREE). */
uint64_t conf_bound(const struct spec_image *img);

#endif
