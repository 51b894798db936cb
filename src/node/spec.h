/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The image: a configuration after parsing, as one block of memory that holds offsets instead
 * of pointers, so that it can be a sealed memfd, mapped by root, inherited by supervisors and
 * handed over at a reload. Written by config_*.c in a process of its own; everybody else only
 * reads it, after spec_check() has bounded every offset.
 *
 * Offsets count bytes from the start of the image; 0 is "none" (the header is there).
 */
#ifndef NODE_SPEC_H
#define NODE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "otp/sup_core.h"

#define SPEC_MAGIC 0x31505043u /* "CPP1" */
#define SPEC_PATH_MAX 512      /* bytes of a child's path with its NUL */
#define SPEC_NODE_MAX 64

typedef uint32_t spec_str; /* offset of a NUL-terminated string; 0: none */

struct spec_list {
	uint32_t off; /* of an array of uint32_t: string offsets, or numbers */
	uint32_t count;
};

enum spec_type { SPEC_WORKER, SPEC_SUPERVISOR, SPEC_DYNAMIC_SUPERVISOR };
enum spec_ready {
	SPEC_READY_EXEC, SPEC_READY_NOTIFY, SPEC_READY_FD, SPEC_READY_AFTER, SPEC_READY_TCP,
	SPEC_READY_UNIX, SPEC_READY_FILE, SPEC_READY_LOG,
	SPEC_READY_INIT               /* a module's: its init has answered */
};
/* What a worker is to others of the node. */
enum spec_server {
	SPEC_SERVER_NONE,             /* an executable that talks to nobody */
	SPEC_SERVER_MODULE,           /* a server out of a shared object; no executable */
	SPEC_SERVER_JSON              /* an executable that speaks JSON lines */
};
enum spec_log { SPEC_LOG_DIR, SPEC_LOG_INHERIT, SPEC_LOG_NULL };
enum spec_limit {
	SPEC_LIMIT_NOFILE, SPEC_LIMIT_NPROC, SPEC_LIMIT_AS, SPEC_LIMIT_CORE, SPEC_LIMIT_CPU,
	SPEC_LIMIT_FSIZE, SPEC_LIMIT_STACK, SPEC_LIMIT_MEMLOCK, SPEC_LIMITS
};

#define SPEC_LIMIT_UNSET UINT64_MAX
#define SPEC_LIMIT_UNLIMITED (UINT64_MAX - 1)
#define SPEC_UNSET_ID UINT32_MAX /* uid or gid not given: inherited */
#define SPEC_NICE_UNSET 127

/* Everything about a worker. */
struct spec_worker {
	struct spec_list exec;        /* strings: program and arguments, %i already replaced; a module has none */
	uint8_t server;               /* enum spec_server */
	spec_str module;              /* absolute path of the shared object */
	spec_str symbol;              /* of its struct cop_server_ops */
	spec_str name;                /* to be registered; none: 0 */
	spec_str args;                /* JSON text for init; none: 0 */
	spec_str dir;
	uint32_t umask;               /* 022 by default */
	uint32_t uid, gid;            /* SPEC_UNSET_ID, or resolved by the parser */
	struct spec_list groups;      /* numbers: supplementary groups, if set_groups */
	uint8_t set_groups;           /* call setgroups (always with uid or gid) */
	int8_t nice;                  /* SPEC_NICE_UNSET */
	uint8_t env_clear;
	uint8_t kill_group;
	spec_str user_name, user_home, user_shell; /* for USER, LOGNAME, HOME, SHELL, when `user` is given */
	struct spec_list env;         /* strings NAME=value: env_file's, then env's, then the last wins */
	uint64_t limits[SPEC_LIMITS];

	uint8_t ready;                /* enum spec_ready */
	uint8_t log;                  /* enum spec_log */
	uint8_t log_timestamps;
	uint8_t stop_signal;
	uint32_t ready_arg;           /* fd:N, after:MS, tcp:PORT */
	spec_str ready_str;           /* unix:PATH, file:PATH, log:REGEX */
	uint32_t ready_timeout_ms;
	uint32_t watchdog_ms;         /* 0: off */
	uint64_t success_codes[4];    /* bit n of the 256: exit status n is a normal end */
	uint64_t success_signals;     /* bit n: signal n is */
	struct spec_list sockets;     /* numbers: indexes into the header's sockets */
	spec_str log_dir;             /* SPEC_LOG_DIR: absolute, or none for the default place */
	uint64_t log_max_bytes;
	uint32_t log_max_files;
	uint8_t kill_orphans_softly;  /* run -- CMD: what is left over is asked with TERM first */
	uint8_t foreground;           /* run -- CMD: standard input and the terminal go to the child */
};

struct spec_child {
	spec_str id;
	spec_str path;                /* from the top's children down, joined by '/'; "/" for the top */
	uint32_t parent;              /* offset of the parent's spec_child; 0 for the top */
	uint32_t next;                /* offset of the next sibling; 0: last */
	uint32_t first;               /* supervisors: offset of the first child; 0: none */
	uint32_t n_children;
	spec_str file;                /* where it was written */
	uint32_t line;
	uint8_t type;                 /* enum spec_type */
	struct sup_child_spec sup;    /* what the supervisor core needs */
	struct sup_flags flags;       /* supervisors: what theirs needs */
	struct spec_worker worker;    /* SPEC_WORKER */
	uint64_t hash_process;        /* of what only a new process can take over */
	uint64_t hash_supervision;    /* of the rest of this child's own keys (not of its children) */
};

struct spec_socket {
	spec_str key;                 /* the listen string; equal keys are one descriptor */
	spec_str name;                /* for LISTEN_FDNAMES */
	uint8_t kind;                 /* 't' tcp, 'u' udp, 'x' unix stream */
	uint32_t mode;                /* unix: permission bits, default 0600 */
	spec_str addr;                /* tcp, udp: numeric address ("" any), unix: path */
	uint32_t port;
};

struct spec_header {
	uint32_t magic;
	uint32_t size;                /* bytes of the whole image */
	uint32_t generation;          /* 0 at start, one more at every reload */
	spec_str node;
	spec_str file;                /* absolute path of the configuration; none for run -- CMD */
	uint32_t top;                 /* offset of the top supervisor's spec_child */
	uint32_t n_children;          /* workers and supervisors below the top */
	uint32_t n_supervisors;       /* the top included */
	uint32_t sockets;             /* offset of an array of spec_socket */
	uint32_t n_sockets;
};

/* The image is used through its base address. */
struct spec_image {
	const struct spec_header *h;  /* == base */
	int fd;                       /* the memfd, or -1 */
};

/* Maps a sealed memfd (at most 256 MB) read-only and checks it whole: magic, size, every offset, every
 * string's end, no cycle. Returns 0, or -1 with EBADMSG or the mapping's errno. Takes fd over
 * on success. */
int spec_open(struct spec_image *img, int fd);
void spec_close(struct spec_image *img);
/* The check of spec_open() on memory. 0, or -1 with EBADMSG. */
int spec_check(const void *base, size_t size);

/* NULL for 0. */
const char *spec_string(const struct spec_image *img, spec_str s);
const struct spec_child *spec_top(const struct spec_image *img);
const struct spec_child *spec_first_child(const struct spec_image *img, const struct spec_child *parent);
const struct spec_child *spec_next_child(const struct spec_image *img, const struct spec_child *c);
/* A worker's arguments for people: escaped, with spaces between them, cut to size. */
void spec_command(const struct spec_image *img, const struct spec_child *c, char *buf, size_t size);
/* By path ("/" or "" is the top); NULL if there is none. */
const struct spec_child *spec_find(const struct spec_image *img, const char *path);
const char *spec_list_str(const struct spec_image *img, const struct spec_list *l, uint32_t i);
uint32_t spec_list_num(const struct spec_image *img, const struct spec_list *l, uint32_t i);
const struct spec_socket *spec_socket_at(const struct spec_image *img, uint32_t i);
const char *spec_type_name(uint8_t type);        /* "worker", "supervisor", "dynamic_supervisor" */
const char *spec_strategy_name(uint8_t strategy);
const char *spec_restart_name(uint8_t restart);
const char *spec_auto_shutdown_name(uint8_t a);

/* --- what a reload would do (spec_diff.c) --- */
enum spec_change { SPEC_ADDED, SPEC_CHANGED, SPEC_REMOVED };
/* Called for each difference, removed ones last to first, then changed and added ones in the new
 * image's order. A child below an added or removed supervisor is not reported by itself;
 * "changed" is one whose own keys changed (a worker that is replaced by a supervisor of the same id too). */
typedef void spec_diff_f(void *ctx, enum spec_change what, const char *path,
    const struct spec_child *old_c, const struct spec_child *new_c);
void spec_diff(const struct spec_image *old_img, const struct spec_image *new_img, spec_diff_f *f, void *ctx);

#endif
