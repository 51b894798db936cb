/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The conformance player: what its parts share. See README.md for what a scenario is.
 *
 *	player.c         the process outside of the node: asks for one command after the other, writes the trace
 *	player_parse.c   the file, read and checked
 *	player_names.c   who is called what: memory that all processes of the node share
 *	player_events.c  lines of the trace, written by the process whose events they are
 *	player_script.c  the node's first process: does the commands
 *	player_proc.c    bare processes
 *	player_worker.c  workers
 *	player_task.c    tasks, streams of tasks
 *	player_registry.c registries and agents
 *
 * Everything is allocated before the node is made and never freed, so a pointer to the scenario means the
 * same in every process.
 */
#ifndef PLAYER_H
#define PLAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coppice/agent.h>
#include <coppice/message.h>
#include <coppice/node.h>
#include <coppice/process.h>
#include <coppice/registry.h>
#include <coppice/server.h>
#include <coppice/supervisor.h>

enum {
	LINE_LEN_MAX = 2048,        /* bytes of a scenario's line; an event's line is hardly longer */
	PIPE_LINE_MAX = 4096,       /* bytes that a pipe takes in one piece: PIPE_BUF of Linux */
	FILE_LEN_MAX = 1 << 20,     /* bytes of a scenario */
	COMMAND_LIMIT_MS = 60000,   /* for one command, beyond the time that it waits as told */
	ACTOR_SCRIPT = 0,
};

/* --- the scenario --- */

enum node_kind {
	NODE_WORKER, NODE_SUPERVISOR, NODE_DYNAMIC,
	NODE_REGISTRY,
};

/* A line of the tree, or what start_child starts. */
struct node {
	enum node_kind kind;
	uint32_t actor;
	uint32_t index;               /* in scenario.nodes: the argument of a worker's init */
	struct node *parent;
	size_t depth;
	size_t n_children;
	bool trap_exit;               /* of a worker, as the rest */
	const char *continue_with;    /* or NULL */
	int slow_init_ms;
	int slow_terminate_ms;
	int64_t initial;
	struct cop_child child;       /* what a supervisor is told of it */
	struct cop_supervisor spec;   /* what it is told itself, if it is one */
	struct cop_via via;           /* of a worker: child.via points to it if it has such a name */
};

enum verb {
	V_START, V_STOP, V_EXIT, V_KILL, V_SIGNAL, V_FAIL, V_IGNORE, V_START_CHILD, V_TERMINATE_CHILD,
	V_RESTART_CHILD, V_DELETE_CHILD, V_WHICH, V_COUNT, V_ALIVE, V_WAIT, V_CALL, V_CAST, V_SEND,
	V_SEND_AFTER, V_CANCEL_TIMER, V_STOP_SERVER, V_WHEREIS, V_REQUEST, V_PROC, V_LINK, V_UNLINK,
	V_MONITOR, V_DEMONITOR, V_EXIT_SIGNAL,
	V_ASYNC, V_ASYNC_NOLINK, V_AWAIT, V_YIELD, V_SHUTDOWN_TASK, V_START_TASK, V_ASYNC_STREAM,
	V_REGISTER, V_UNREGISTER, V_UPDATE_VALUE, V_LOOKUP, V_MATCH, V_KEYS, V_SELECT, V_COUNT_KEYS, V_DISPATCH,
	V_AGENT, V_AGENT_GET, V_AGENT_UPDATE, V_AGENT_GET_AND_UPDATE, V_AGENT_CAST, V_AGENT_STOP,
};

struct command {
	enum verb verb;
	int line;
	const char *text;             /* its tokens joined by one space */
	uint32_t name[2];             /* actors, in the order of the words */
	const char *msg;
	const char *value;            /* of registries and agents; msg is the key */
	int64_t number;               /* milliseconds, or how often */
	const char *reason_text;
	struct cop_exit reason;
	struct node *node;            /* of start_child */
	int timeout_ms;
	bool trap_exit;
	long timer;                   /* which one, -1: it has no name */
	struct task_command *task;    /* of the commands of player_task.c */
};

struct scenario {
	const char *file;
	struct node *top;             /* NULL: no tree */
	struct node **nodes;
	size_t n_nodes;
	struct command *commands;
	size_t n_commands;
	const char **actors;          /* every name of a process */
	size_t n_actors;
	const char **timers;
	size_t n_timers;
};

extern struct scenario scenario;

/* Reads a scenario; a mistake in it ends the player: a line on standard error, exit 2. */
void parse_scenario(const char *file);

/* Reads a whole number. False: it is none, or out of bounds. */
bool parse_number(const char *text, int64_t min, int64_t max, int64_t *number_r);

/* Returns the number of a process's name; the script's is a mistake, as any other bad name. */
uint32_t parse_actor(const char *name);

/* --- names --- */

enum role { ROLE_SCRIPT = 1, ROLE_WORKER, ROLE_SUPERVISOR, ROLE_PROC, ROLE_TASK, ROLE_AGENT };

/* What is to be said when a process is gone. */
enum life {
	LIFE_SILENT,   /* nothing */
	LIFE_STARTING, /* a supervisor that has not answered its parent */
	LIFE_UP,       /* down */
};

enum fate { FATE_NONE, FATE_FAIL, FATE_IGNORE };

/* Makes the shared memory, before the node is. 0, or -1 with errno. */
int names_create(void);
/* Gives a process a name: it is the last that had it. */
void names_enter(uint32_t actor, enum role role, cop_pid pid, enum life life);
void names_set_life(cop_pid pid, enum life life);
/* Tells of a process who it is; false if it never had a name. */
bool names_find(cop_pid pid, uint32_t *actor_r, enum life *life_r);
/* The name of a process, or "unknown". */
const char *names_of(cop_pid pid);
/* The last process of that name, COP_NOPID if there was none, and what it is. */
cop_pid names_last(uint32_t actor, enum role *role_r);
/* Settles what the next n inits of a worker do, because of a command. */
void names_set_fate(uint32_t actor, enum fate fate, int64_t n, const struct command *cause);
/* For how many inits something is settled. */
int64_t names_fates_left(uint32_t actor);
/* Counts a run of work that fails at first; which one this is. */
int64_t names_runs(uint32_t actor);
/* What this init does. */
enum fate names_take_fate(uint32_t actor, const struct command **cause_r);

/* --- events: lines to the pipe that player.c reads --- */

/* Sets where lines go, and for how long at most an event holds up its process. Before the node is made. */
void events_open(int fd, int jitter_ms);
/* Writes an event, and returns when it is written. In processes of the node. */
void emit(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes the result of the command, of any length. */
void emit_result(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says that the scenario cannot be played any further. */
void emit_impossible(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The word for a reason. */
const char *reason_word(const struct cop_exit *reason, char word[COP_EXIT_FORMAT_MAX]);
/* The node's reports: writes what supervisors do, and who is down. */
void events_report(const struct cop_report *report);

/* The reference's word for the reason of a failed start. as_child: of start_child under a supervisor that is not
 * dynamic. */
const char *start_word(const struct cop_exit *reason, bool as_child, char word[COP_EXIT_FORMAT_MAX]);

/* --- processes --- */

enum tag {
	TAG_MSG = 1, /* the text of a message */
	TAG_EXIT,    /* a struct cop_exit: end with it */
	TAG_ORDER,   /* a struct order for a bare process */
	TAG_RESULT,  /* to the script: a result's text */
	TAG_TAKEN,   /* to the script: the name of a bare process is taken */
};

struct order {
	uint32_t command; /* index */
	cop_pid target;   /* B */
};

/* Copies a message's text into buf, terminated. Returns buf. */
const char *msg_text(const struct cop_msg *msg, char buf[LINE_LEN_MAX]);

extern const struct cop_server_ops worker_ops;

extern cop_pid script_pid;
cop_proc_f script_main; /* its argument: the descriptor from which it reads indices of commands */
cop_proc_f proc_main;   /* its argument: the command */

/* --- tasks (player_task.c) --- */

/* Of reading: whether it is WORK; a command's own part, one of its options, and whether there are all that it needs. */
bool task_is_work(const char *work);
void task_command_begin(struct command *c);
bool task_option(struct command *c, const char *key, char *value);
bool task_command_is_whole(const struct command *c);
/* Whether a command is done by a task's owner, and who that is: an actor, 0 for nobody. */
bool task_is_owners(enum verb verb);
uint32_t task_owner(const struct command *c);
/* Does it, in the owner; the result's text. */
const char *task_obey(const struct command *c);
/* `start_task`, by the script. */
void task_start(const struct command *c);
/* --- the script's, for commands in other files --- */

/* Ends the script, and with it the node. */
_Noreturn void impossible(const struct command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Has a process do it, which answers with tell() or tell_failure(). */
void spawned(const struct command *c, cop_proc_f *f);
void tell(const char *text, size_t len);
void tell_failure(const struct cop_exit *reason);
/* Has the bare process that is the command's i-th name do it, and writes the result that it answers. */
void order_proc(const struct command *c, int i);

/* --- player_registry.c --- */

void do_registry(const struct command *c);
/* What a bare process does; returns the result. */
const char *registry_obey(const struct command *c);
/* How a server of that name is reached when it is the turn of command c. */
struct cop_dest address_of(const struct command *c, uint32_t actor);
/* Tells whether that is through a registry that is not there: Elixir's raises then. */
bool address_is_unknown(const struct command *c, uint32_t actor);

/* Crashes, as a raised exception does. */
_Noreturn void crash(void);

#endif
