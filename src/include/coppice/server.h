/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * GenServer: a process that keeps a state and serves calls, casts and other messages one at a time.
 * The behaviour is a constant struct of functions; the library makes the state in the new process, all
 * zeroes, and calls them there. A callback returns what comes next: one of the makers below, put through
 * cop_then_*() if there is more to it.
 */
#ifndef COPPICE_SERVER_H
#define COPPICE_SERVER_H

#include <coppice/message.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Who asked: for a reply that comes later. May be kept, copied and sent; valid for one reply. */
struct cop_from {
	cop_pid pid;
	cop_ref ref;
};

/* What a server does next. Made by the functions below only, and returned at once: two of them at a time are
 * one too many. */
struct cop_next {
	uint8_t what, then, replies, unused; /* the library's, as all the rest */
	int32_t timeout_ms;
	uint32_t reply, more;
};

/* {:ok, state} of init, {:noreply, state} of the others. */
struct cop_next cop_ok(void);
/* handle_call: {:reply, reply, state}. Copies. The reply goes out when the callback returns. */
struct cop_next cop_reply(const void *data, size_t len);
struct cop_next cop_reply_tag(uint32_t tag, const void *data, size_t len);
/* The same with data of cop_msg_new(), filled in place, which it takes. */
struct cop_next cop_reply_msg(uint32_t tag, void *data);
/* {:stop, reason, state}. In init: the start fails with this reason. */
struct cop_next cop_stop(const struct cop_exit *reason);
/* handle_call: {:stop, reason, reply, state}. The reply goes out after terminate. */
struct cop_next cop_stop_reply(const struct cop_exit *reason, const void *data, size_t len);
/* init: :ignore. */
struct cop_next cop_ignore(void);
/* Adds {:continue, _}: handle_continue runs at once, before any message. Copies. */
struct cop_next cop_then_continue(struct cop_next next, uint32_t tag, const void *data, size_t len);
/* Adds a time-out: if no message comes within ms, handle_info gets COP_MSG_TIMEOUT. */
struct cop_next cop_then_timeout(struct cop_next next, int ms);
/* Adds :hibernate: what memory can be given back is given back until the next message. */
struct cop_next cop_then_hibernate(struct cop_next next);

/* Runs first in the new process, before whoever started it goes on. arg are the bytes given at the start
 * (a copy in this process). May block; everybody who waits for the start waits then. */
typedef struct cop_next cop_server_init_f(void *state, const void *arg, size_t size);
/* A message: msg and its data are the library's, and gone when this returns. */
typedef struct cop_next cop_server_msg_f(void *state, const struct cop_msg *msg);
typedef struct cop_next cop_server_call_f(void *state, const struct cop_msg *msg, struct cop_from from);
/* Runs last: after stop, after cop_exit() in a callback, after cop_server_stop(), or when the parent sent an
 * exit signal that was trapped. Not after a kill, nor when a process that does not trap exits gets an
 * exit signal, nor when a signal like SIGSEGV ends it. cop_exit() in it replaces the reason. */
typedef void cop_server_terminate_f(void *state, const struct cop_exit *reason);

struct cop_server_ops {
	const char *name;                 /* of the behaviour, for reports */
	size_t state_size;                /* bytes; zeroed, aligned to 16 */
	cop_server_init_f *init;          /* absent: cop_ok() */
	cop_server_call_f *handle_call;   /* absent: a call ends the server with `bad_call` */
	cop_server_msg_f *handle_cast;    /* absent: a cast ends the server with `bad_cast` */
	cop_server_msg_f *handle_info;    /* everything else; absent: said on standard error, and dropped */
	cop_server_msg_f *handle_continue;/* tag and data of cop_then_continue(); absent: ends it, `bad_continue` */
	cop_server_terminate_f *terminate;/* absent: nothing */
};

struct cop_server_options {
	const char *name;       /* to be registered before init runs; NULL: none */
	const void *arg;        /* for init */
	size_t arg_size;
	int timeout_ms;         /* of init; 0: COP_INFINITY */
	int hibernate_after_ms; /* 0: never */
	const struct cop_via *via; /* a name in a registry (coppice/registry.h), as `name`; NULL: none */
};

enum cop_start { COP_STARTED = 1, COP_IGNORED = 0, COP_NOT_STARTED = -1 };

struct cop_started {
	cop_pid pid;            /* STARTED; or who has the name */
	struct cop_exit reason; /* NOT_STARTED: init's, `already_started` (errno EEXIST), `unknown_registry`, `timeout`
	                           (ETIMEDOUT), or why there is no process (EAGAIN, ENOMEM) */
};

/* Starts a server and waits for its init. Linked to the caller, who is its parent: an exit signal from there
 * ends it even if it traps exits. Not linked: start. options may be NULL. errno is ECANCELED when
 * init said stop or died. A caller that is linked and does not trap exits dies with a start that fails
 * (but for `normal`). With trapping on, no COP_MSG_EXIT is left behind. Mirrors GenServer.start_link/3. */
enum cop_start cop_server_start_link(const struct cop_server_ops *ops,
    const struct cop_server_options *options, struct cop_started *started_r) __attribute__((warn_unused_result));
enum cop_start cop_server_start(const struct cop_server_ops *ops,
    const struct cop_server_options *options, struct cop_started *started_r) __attribute__((warn_unused_result));

#define COP_CALL_MS 5000 /* OTP's time-out of a call */

/* The answer to a call. Its data stays until cop_response_done(). */
struct cop_response {
	struct cop_msg msg;     /* tag, data, len of the reply */
	struct cop_exit reason; /* of a failed call: `noproc`, `timeout`, `calling_self`, or the server's end */
};

/* Asks a server and waits for its reply. Returns 0, or -1: ESRCH or ENOENT (`noproc`), ETIMEDOUT (the
 * server may still do it; its late reply vanishes), EPIPE (the server ended: reason), EDEADLK (oneself),
 * EMSGSIZE, ENOMEM, EAGAIN (64 requests are waited for, or the quota is full of messages to oneself). response_r may be
 * NULL. Mirrors GenServer.call/3, which would exit the caller:
 * cop_server_call_or_exit() does. */
int cop_server_call(struct cop_dest server, uint32_t tag, const void *data, size_t len, int timeout_ms,
    struct cop_response *response_r) __attribute__((warn_unused_result));
/* The same with data of cop_msg_new(), filled in place; takes it, also when it fails. */
int cop_server_call_msg(struct cop_dest server, uint32_t tag, void *data, int timeout_ms,
    struct cop_response *response_r) __attribute__((warn_unused_result));
void cop_response_done(struct cop_response *response);

/* As cop_server_call(), for fixed sizes: copies a reply of exactly reply_len bytes. -1 with EBADMSG if it is of
 * another length. reason_r may be NULL. */
int cop_server_ask(struct cop_dest server, uint32_t tag, const void *data, size_t len, void *reply_r,
    size_t reply_len, int timeout_ms, struct cop_exit *reason_r) __attribute__((warn_unused_result));

/* As cop_server_ask(), but ends the caller (cop_exit()) with the reason when the call fails. */
void cop_server_call_or_exit(struct cop_dest server, uint32_t tag, const void *data, size_t len,
    void *reply_r, size_t reply_len, int timeout_ms);

/* Sends a request and does not wait for an answer; for room in a full mailbox it waits. A server that is not there,
 * or a name that nobody has, loses it, and that is no error. Returns 0, or -1 with EMSGSIZE or ENOMEM. Mirrors
 * GenServer.cast/2. */
int cop_server_cast(struct cop_dest server, uint32_t tag, const void *data, size_t len);
/* The same with data of cop_msg_new(), filled in place, which it takes. */
int cop_server_cast_msg(struct cop_dest server, uint32_t tag, void *data);

/* Sends a call's request without waiting for the reply. COP_NOREF with errno as cop_server_call(). Mirrors
 * gen_server:send_request/2. */
cop_ref cop_server_send_request(struct cop_dest server, uint32_t tag, const void *data, size_t len);
/* Waits for the reply to it. 1: there; 0: not in time, and abandoned; -1 with EPIPE or ESRCH: reason.
 * Mirrors gen_server:receive_response/2. */
int cop_server_receive_response(cop_ref request, int timeout_ms, struct cop_response *response_r)
    __attribute__((warn_unused_result));

/* Answers a call later, from any process of the node. A second answer vanishes. Mirrors GenServer.reply/2. */
void cop_server_reply(struct cop_from from, uint32_t tag, const void *data, size_t len);

/* Asks a server (or supervisor) to end with a reason, behind the messages it has, and waits until it is gone.
 * 0 if it ended with just that reason; -1 with EPIPE (another: actual_r), ESRCH (`noproc`), ETIMEDOUT (it
 * will still end), EDEADLK. reason NULL: normal. actual_r may be NULL. Mirrors GenServer.stop/3. */
int cop_server_stop(struct cop_dest server, const struct cop_exit *reason, int timeout_ms,
    struct cop_exit *actual_r) __attribute__((warn_unused_result));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
