/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Messages: many senders, one receiver, in order per sender, received selectively. A message is a tag
 * and bytes; both mean what sender and receiver agree on. It lies in the sender's part of the node's
 * shared memory until the receiver is done with it, and is never copied on the way.
 */
#ifndef COPPICE_MESSAGE_H
#define COPPICE_MESSAGE_H

#include <coppice/process.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum cop_msg_kind {
	COP_MSG_PLAIN,   /* of cop_send(): tag, data */
	COP_MSG_CALL,    /* of cop_server_call(): tag, data; to be answered: from, ref (coppice/server.h) */
	COP_MSG_CAST,    /* of cop_server_cast(): tag, data */
	COP_MSG_EXIT,    /* an exit signal of `from` that was trapped: reason */
	COP_MSG_DOWN,    /* a monitor has fired: ref, from (COP_NOPID if the name was nobody's), reason */
	COP_MSG_READY,   /* a descriptor is ready: fd, events (cop_select()) */
	COP_MSG_SIGNAL,  /* a Unix signal came: fd is its number (cop_select_signal()) */
	COP_MSG_TIMEOUT, /* servers only: the time that a callback set has passed without a message */
};

#define COP_MSG_MAX ((size_t)64 << 20) /* longest data of a message, in bytes */
#define COP_TAG_JSON 0x4a534f4eu       /* this tag says: data is JSON text in UTF-8, without a final NUL */

/* A received message. data lies in shared memory, is aligned to 16 bytes, and stays until cop_msg_done(). */
struct cop_msg {
	uint8_t kind;           /* enum cop_msg_kind */
	uint32_t tag;
	cop_pid from;           /* the sender */
	cop_ref ref;
	const void *data;
	size_t len;             /* bytes */
	struct cop_exit reason; /* EXIT, DOWN */
	int fd;                 /* READY, SIGNAL */
	uint32_t events;        /* READY: of poll(2) */
	void *held;             /* the library's */
};

/* Tells whether a message is wanted. Must not receive, and must not keep the message. */
typedef bool cop_match_f(void *ctx, const struct cop_msg *msg);

#define COP_NOWAIT 1u /* rather fail than wait */

/* Sends len bytes. The message is in the receiver's mailbox when this returns, whatever happens to the
 * sender then. To a process that is gone, it vanishes, and that is no error. Waits while the mailbox, or
 * the sender's quota of memory, is full (COP_NOWAIT: -1 with EAGAIN; also when it is one's own).
 * Returns 0, or -1: ENOENT (no such name), EMSGSIZE, ENOMEM (the node's memory is used up).
 * Mirrors send/2, and Process.send/3 with flags. */
int cop_send(struct cop_dest to, uint32_t tag, const void *data, size_t len);
int cop_send_flags(struct cop_dest to, uint32_t tag, const void *data, size_t len, unsigned flags)
    __attribute__((warn_unused_result));

/* Makes a message of len bytes whose data the caller fills in place; for big ones. NULL with EMSGSIZE,
 * ENOMEM or (COP_NOWAIT) EAGAIN. cop_msg_send() takes it, also when it fails; cop_msg_drop() frees one
 * that is not sent. */
void *cop_msg_new(size_t len, unsigned flags) __attribute__((warn_unused_result));
int cop_msg_send(struct cop_dest to, uint32_t tag, void *data, unsigned flags);
void cop_msg_drop(void *data);

/* Takes the oldest message that match wants (NULL: the oldest), waiting for at most timeout_ms
 * (COP_INFINITY; 0: looks through the mailbox once). What is not wanted stays, in order. Returns 1, or 0
 * when the time is over, or -1 with ENOMEM (nothing is lost). Mirrors receive. */
int cop_receive(struct cop_msg *msg_r, cop_match_f *match, void *ctx, int timeout_ms)
    __attribute__((warn_unused_result));

/* Gives back a received message's memory. Once for each; its data is gone then. */
void cop_msg_done(struct cop_msg *msg);

/* Returns how many messages wait in the calling process's mailbox. Mirrors message_queue_len. */
size_t cop_queue_len(void);

/* Waits for ms milliseconds; messages keep. Mirrors Process.sleep/1. */
void cop_sleep(int ms);

/* Sends a message after ms milliseconds. A process as destination: its end cancels the timer, the caller's
 * does not. A name: looked up when the time has come, and then the caller must be alive; one in a registry is looked up
 * at once. COP_NOREF with
 * EINVAL (ms < 0), EMSGSIZE or ENOMEM. Mirrors Process.send_after/3. */
cop_ref cop_send_after(struct cop_dest to, uint32_t tag, const void *data, size_t len, int64_t ms);

/* Cancels a timer of any process. Returns the milliseconds that were left, or -1 when it has fired, was
 * cancelled, or its destination is gone. Never blocks. Mirrors Process.cancel_timer/1. */
int64_t cop_cancel_timer(cop_ref ref);

/* Returns the milliseconds left, or -1. Mirrors Process.read_timer/1. */
int64_t cop_read_timer(cop_ref ref);

/* Asks for one COP_MSG_READY when the descriptor is ready for any of the events (POLLIN, POLLOUT, ...; errors
 * always count); to hear again, ask again. events 0 takes it back, and must come before close(2). Returns
 * 0, or -1 with the errno of epoll_ctl(2). */
int cop_select(int fd, uint32_t events) __attribute__((warn_unused_result));

/* From now on (on), this signal comes as a message of kind COP_MSG_SIGNAL instead of interrupting. -1 with
 * EINVAL for signals that cannot be caught, and for SIGURG, SIGCHLD and the last but one real-time signal, which
 * are the library's. */
int cop_select_signal(int signo, bool on) __attribute__((warn_unused_result));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
