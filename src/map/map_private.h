/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the files of the runner share (doc/design/0012-map.md). One struct run in the runner's process; each part
 * of it belongs to the file named beside it, and the others call that file.
 */
#ifndef MAP_MAP_PRIVATE_H
#define MAP_MAP_PRIVATE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "ipc/group.h"
#include "ipc/loop.h"
#include "map/map.h"

#define MAP_WINDOW 1024            /* items between start and delivery, beside those that run */
#define MAP_ITEM_MAX 131071        /* bytes of an item: what the kernel takes as one argument */
#define MAP_KEEP (4u << 20)        /* bytes of one stream of an item in memory */
#define MAP_KEEP_ALL (64u << 20)   /* of all */
#define MAP_PIECE (64u << 10)      /* bytes read, written or transformed at a time */
#define MAP_LINE_KEEP (256u << 10) /* --line-buffer: bytes of a line that has not ended */
#define MAP_PROGRESS_MAX 512       /* bytes of the line of --progress */
#define MAP_GRACE_MS 500           /* between TERM and KILL */

#define MAP_CHUNKS 8               /* memfds that are kept */

struct run;
struct item;

/* --- the ledger: what is being delivered, in memory that guard and runner share (map_ledger.c) --- */

enum map_ledger_phase { LEDGER_IDLE, LEDGER_OUTPUT, LEDGER_LINE };

#define MAP_LINE_MAX (64u << 10)   /* bytes of a line of the log */

/* Written by the runner, read by the guard after the runner's death. */
struct ledger {
	_Atomic int phase;         /* enum map_ledger_phase */
	int64_t base[2];           /* where the output was in stdout and stderr; -1: not a regular file */
	_Atomic int64_t done[2];   /* bytes written since */
	_Atomic int64_t want[2];   /* bytes of the write that is on its way */
	int64_t log_base;
	size_t len;
	char line[MAP_LINE_MAX];
};

/* NULL with errno. */
struct ledger *ledger_make(void);
/* Output of an item begins. */
void ledger_output(struct ledger *l, int log);
/* It is written: the line follows. */
void ledger_line(struct ledger *l);
void ledger_idle(struct ledger *l);
/* The line cannot be written: takes back what there is of it, and the output. */
void ledger_undo(struct ledger *l, int log);
/* In the guard: completes what the dead runner began, or undoes it. */
void ledger_settle(struct ledger *l, int log);

/* --- items --- */

/* A part of the spill file. */
struct extent {
	int64_t at;
	size_t len;
};

/* One stream of an item's output: extents, then memory (map_capture.c). */
struct capture {
	struct loop_source src;    /* the pipe's end; fd -1: not watched */
	struct run *run;
	struct item *item;
	int stream;                /* 0: standard output; 1: standard error */
	int fd;                    /* -1: closed */
	char *mem;
	size_t len, cap;
	struct extent *ext;
	size_t n_ext, cap_ext;
	uint64_t total;            /* bytes since the attempt began */
	bool spare;                /* mem is kept for the next item */
	bool held;                 /* not read for now */
};

enum item_state {
	ITEM_FRESH,                /* to be started */
	ITEM_RUNNING,
	ITEM_WAITING,              /* for its next attempt */
	ITEM_DONE,                 /* to be delivered */
	ITEM_CUT,                  /* killed with everything: neither delivered nor logged */
};

struct slot;

struct item {
	TAILQ_ENTRY(item) live;    /* in the order of input, until delivered */
	TAILQ_ENTRY(item) queue;   /* of those that ended, or that wait for a slot again */
	struct run *run;
	uint64_t seq;              /* from 1 */
	char *text;                /* n_args strings, each with its NUL */
	size_t len, cap, n_args;
	int chunk;                 /* --pipe: memfd; -1 */
	const char *bad;           /* why it cannot be run; static memory; NULL */
	enum item_state state;
	unsigned attempt;          /* from 1 */
	unsigned number;           /* of the slot it ran in, from 1 */
	pid_t pid;
	int64_t start_us;          /* of the attempt */
	int64_t start_ns, ran_ns;
	int exit, sig;             /* how it ended */
	int err;                   /* errno of execve; 0 */
	bool timed_out;
	bool killing;              /* TERM was sent: KILL is next */
	struct capture out[2];
	struct slot *slot;         /* while it runs */
	struct loop_timer timer;   /* its time, then KILL; or its next attempt */
};
TAILQ_HEAD(items, item);

/* --- map_items.c: where items come from --- */

struct input {
	const struct map_options *o;
	int fd;
	size_t next_arg;           /* of ::: */
	struct loop *loop;
	struct loop_source src;
	bool polled;               /* it is something that may have to be waited for */
	bool readable, ended;
	char *buf;                 /* [from, to) is to be used */
	size_t from, to, cap;
	size_t looked;             /* bytes from `from` on known to hold no end of an item */
	bool skipping;             /* within an item that is too long */
	int chunk;                 /* memfd that is being filled; -1 */
	size_t len, whole;         /* bytes in it; and of whole records */
	size_t records;            /* in it */
	int pool[MAP_CHUNKS];      /* memfds to be used again: their memory is there already */
	size_t n_pool;
	int err;                   /* errno of the read that failed; 0 */
	void (*wake)(void *ctx);
	void *ctx;
};

/* 0, or -1 with errno. */
int input_open(struct input *in, const struct map_options *o, struct loop *l, void (*wake)(void *ctx), void *ctx);
void input_close(struct input *in);
enum input_result { INPUT_ITEM, INPUT_WAIT, INPUT_END };
/* Fills the item's text or chunk. INPUT_WAIT: wake will be called. */
enum input_result input_next(struct input *in, struct item *it);
/* The chunk is not needed any more; *fd becomes -1. */
void input_give_back(struct input *in, int *fd);

/* --- map_words.c: the command with an item in it --- */

struct strings {
	char *text;
	size_t len, cap;
	size_t *at;
	size_t n, cap_at;
	char **argv;               /* after strings_finish(); NULL-terminated */
	size_t cap_argv;
};

/* Tells what is wrong with the words of the command; NULL: nothing. Decides whether the item goes to the end. */
struct words {
	char *const *word;
	size_t n;
	bool append;               /* no word has a replacement: the items follow */
	bool fixed;                /* the program's name has none */
};
void words_init(struct words *w, const struct map_options *o);
/* Makes the argument vector for an item. */
void words_expand(const struct words *w, const struct item *it, unsigned number, struct strings *s);
void strings_fini(struct strings *s);
/* Writes the vector as a shell would read it; cut at size. One_line: a newline is written as $'\n', which not every
 * shell knows. Returns the length. */
size_t words_quote(const struct strings *s, bool one_line, char *buf, size_t size);
/* Finds the program, as execvp(3) would. Returns 0, or the errno. */
int words_find(const char *name, char *path, size_t size);

/* --- map_slot.c: the processes --- */

struct slot {
	struct run *run;
	unsigned number;           /* from 1 */
	pid_t pid;                 /* 0: free */
	struct item *item;
	char *stack;
	struct strings argv;
	char **env;
	char invocation[sizeof "INVOCATION_ID=" + GROUP_INVOCATION];
	const char *path;
	char *own_path;            /* looked up for this slot */
	int fd[3];                 /* what becomes 0, 1, 2 */
	int *err;                  /* errno of execve, in shared memory */
	SLIST_ENTRY(slot) free;
};

/* 0, or -1 with errno. */
int slots_init(struct run *r);
void slots_fini(struct run *r);
/* Starts the item. 0; -1 with errno: no process or descriptor for it now. */
int slot_launch(struct run *r, struct item *it);
/* Buries who has died, and calls run_ended() for each item. */
void slots_reap(struct run *r);
void slot_signal(struct slot *s, int sig);
void slots_signal(struct run *r, int sig);
/* Kills everything that is left, and waits for it. */
void slots_end(void);

/* --- map_capture.c, map_spill.c: output until it is delivered --- */

struct spill {
	int fd;                    /* unlinked; -1: not made yet */
	int64_t end;
	int64_t used;              /* bytes in extents */
	bool full;                 /* it has no room: item by item */
	bool told;
};

/* Opens the two pipes; their other ends are in write_r. 0, or -1 with errno. */
int capture_open(struct run *r, struct item *it, int write_r[2]);
void capture_watch(struct run *r, struct capture *c);
/* The process is gone: takes what is in the pipe, and closes it. */
void capture_finish(struct run *r, struct capture *c);
void capture_drop(struct run *r, struct capture *c);
/* Reads on, where reading was held up. */
void capture_resume(struct run *r, struct capture *c);
/* The next bytes from `at` on, at most MAP_PIECE from the file. NULL at the end. Static memory or the capture's. */
const char *capture_at(struct run *r, const struct capture *c, uint64_t at, size_t *len_r);
void capture_consumed(struct capture *c, size_t n); /* takes bytes away from the front of memory */

int spill_put(struct spill *s, const char *data, size_t len, struct extent *e_r);
int spill_get(struct spill *s, const struct extent *e, size_t skip, char *buf, size_t len);
void spill_free(struct spill *s, const struct extent *e);

/* --- map_sink.c: standard output and standard error --- */

enum sink_kind { SINK_FILE, SINK_NONBLOCK, SINK_SOCKET, SINK_POLL };

struct sink {
	int fd;
	bool own;                  /* opened again */
	enum sink_kind kind;
	struct loop *loop;
	struct loop_source src;
	char *buf;                 /* [off, len) waits */
	size_t off, len, cap;
	bool blocked;
	int err;                   /* errno of the write that failed */
	struct ledger *ledger;
	int stream;
	void (*drained)(void *ctx);
	void *ctx;
};

void sink_open(struct sink *s, int fd, struct loop *l, void (*drained)(void *ctx), void *ctx);
void sink_close(struct sink *s);
/* Takes all of it; what cannot be written now waits in memory. */
void sink_put(struct sink *s, const char *data, size_t len);
/* Takes what can be written now: the number of bytes. 0 if it is blocked. */
size_t sink_try(struct sink *s, const char *data, size_t len);
static inline size_t sink_pending(const struct sink *s)
{
	return s->len - s->off;
}

/* --- map_deliver.c, map_json.c --- */

enum delivery_phase { DELIVER_BEGIN, DELIVER_OUT, DELIVER_ERR, DELIVER_FLUSH };

struct delivery {
	struct item *item;         /* NULL: none */
	enum delivery_phase phase;
	uint64_t at;               /* bytes of the stream that are through */
	bool in_line;              /* the tag of this line is written */
};

/* Delivers what can be; returns when it must wait, or has nothing more. */
void deliver_pump(struct run *r);
/* --line-buffer: passes on whole lines. */
void deliver_lines(struct run *r, struct capture *c, bool all);
/* A record up to where its standard output follows, as the inside of a string. */
void json_head(struct run *r, const struct item *it, struct sink *s);
#define JSON_MIDDLE "\",\"stderr\":\""
#define JSON_TAIL "\"}\n"
/* Bytes as the inside of a string; leaves a character at the end that is torn, unless they are the last ones.
 * Returns how many were taken. */
size_t json_piece(struct sink *s, const char *data, size_t size, bool last);

/* --- map_log.c: --joblog, --resume --- */

struct span {
	uint64_t lo, hi;
};

struct joblog {
	int fd;                    /* -1: none */
	struct span *done;         /* sorted, apart from each other */
	size_t n, cap, next;
};

/* Opens, locks and reads it. 0, or -1: said. */
int joblog_open(struct joblog *l, const struct map_options *o);
/* Asked in rising order. */
bool joblog_has(struct joblog *l, uint64_t seq);
/* Formats the item's line. Returns its length. */
size_t joblog_line(struct run *r, const struct item *it, char *buf, size_t size);

/* --- map_results.c --- */

/* Makes the directory, with those above it, before anything is run. 0, or -1: said. */
int results_prepare(const struct map_options *o);
/* 0, or -1: said. */
int results_write(struct run *r, struct item *it);

/* --- map_policy.c: what follows from an attempt --- */

bool item_failed(const struct item *it);
/* Milliseconds until the next attempt; -1: there is none. */
int64_t policy_retry(const struct run *r, const struct item *it);
/* Tells whether it is time to halt, after another item has ended for good. */
bool policy_halts(const struct run *r);
int policy_status(const struct run *r);

/* --- map_progress.c --- */

struct progress {
	bool on, shown;
	char line[MAP_PROGRESS_MAX]; /* that is shown */
	size_t len;
	int64_t start_ms;
	struct loop_timer timer;
};

void progress_start(struct run *r);
/* Takes it away before something else is written to the terminal. */
void progress_hide(struct run *r);
void progress_end(struct run *r);

/* --- map_run.c --- */

struct run {
	const struct map_options *o;
	struct loop loop;
	struct loop_source signals;
	int signal_fd;
	sigset_t mask;             /* what the program was started with */
	pid_t guard, self;
	struct ledger *ledger;
	struct input in;
	struct words words;
	char *path;                /* of the program, when it is always the same */
	struct slot *slots;
	SLIST_HEAD(, slot) free;
	unsigned running;
	int *errs;                 /* shared memory, one for each slot */
	int null_fd;
	char invocation[GROUP_INVOCATION / 2 + 1];
	uint64_t launches;
	struct items live;         /* not delivered, in order of input */
	struct items ended;        /* not delivered, in order of ending */
	struct items again;        /* whose next attempt is due */
	struct items spare;        /* to be used again */
	size_t n_live, n_waiting;
	struct item *ahead;        /* read, and not started for lack of a process */
	struct item *partial;      /* --max-args: not all of it has come */
	uint64_t seq;              /* of the last item read */
	struct sink sink[2];
	struct delivery delivery;
	struct spill spill;
	size_t kept;               /* bytes of output in memory */
	size_t spare_bytes;        /* of memory that is kept for more */
	char *scratch;             /* MAP_PIECE */
	struct joblog log;
	struct progress progress;
	struct loop_timer look;    /* for items that run longer: their pipes */
	struct loop_timer breath;  /* until making a process is tried again */
	unsigned breaths;
	struct loop_timer force;   /* KILL for all */
	uint64_t ended_n, failed_n; /* for good */
	uint64_t skipped;          /* by --resume */
	bool input_ended;
	bool stopping;             /* start no more */
	bool suspended;            /* by TSTP */
	bool closed;               /* the output takes no more */
	bool killing;              /* those that run are being killed */
	int signal;                /* that asked us to stop; 0 */
	int status;                /* enum map_status that comes before the number of failed; 0 */
	bool pumping, pump_again;  /* run_pump() is at it; and was asked meanwhile */
};

/* In the runner's process: all of it. Returns the exit status. */
int runner_main(const struct map_options *o, struct ledger *ledger, struct joblog *log, const sigset_t *mask,
    pid_t guard);
/* An item's process is gone. */
void run_ended(struct run *r, struct item *it);
/* Something is wrong that ends everything, and it was said. */
void run_break(struct run *r, int status);
/* An item was delivered. */
void run_delivered(struct run *r, struct item *it);
/* To be tried: starting, delivering. */
void run_pump(struct run *r);

/* Memory, or the end of the runner; everything else follows from that. */
void *map_grow(void *p, size_t n, size_t size);
/* Makes room for at least `need` elements. */
#define MAP_ROOM(p, cap, need) \
	do { \
		while ((cap) < (need)) { \
			(cap) = (cap) ? 2 * (cap) : 64; \
			(p) = map_grow((p), (cap), sizeof *(p)); \
		} \
	} while (0)

#endif
