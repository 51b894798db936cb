/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From a batch of output to what is written: one step after the other, each a piece of the file
 * and the state after it. A pure function of the batch, the state and the limits: whoever does
 * a step again after a kill gets the same bytes, and can skip those that are in the file already.
 * Never allocates.
 */
#ifndef NODE_LOG_FEED_H
#define NODE_LOG_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/log_journal.h"
#include "node/log_mark.h"

#define LOG_OUT_MAX (128 * 1024)  /* bytes of one step's output */
#define LOG_MAX_BYTES_MIN 64      /* a smaller max_bytes counts as this */

struct log_feed {
	const uint8_t *in;
	size_t len;
	const char *secret;
	int64_t time_us;
	uint64_t max_bytes;     /* 0: no rotation */
	bool timestamps;
	bool marked;            /* mark is valid, and at or after where the work is */
	bool searched;
	bool final;             /* nothing will come after this input */
	struct log_mark mark;
	uint8_t out[LOG_OUT_MAX];
};

enum log_step_kind {
	LOG_STEP_END,    /* the input is dealt with */
	LOG_STEP_WRITE,  /* out goes to the end of the file */
	LOG_STEP_ROTATE, /* the file is full */
	LOG_STEP_SKIP,   /* nothing is written */
};

struct log_step {
	enum log_step_kind kind;
	const uint8_t *out;           /* into the feed or its input */
	size_t out_len;
	const uint8_t *raw;           /* what of it the child wrote: for the ring and the regex */
	size_t raw_len;
	const struct log_mark *mark;  /* this step deals with a mark, or NULL */
	struct log_state after;
};

/* Makes a feed for a batch. The memory of in must stay until the feed's last step. */
void log_feed_init(struct log_feed *f, const uint8_t *in, const struct log_batch *b,
    const char *secret);

/* The next step from this state, when the file can be written. */
void log_feed_next(struct log_feed *f, const struct log_state *st, struct log_step *step_r);

/* The same step cut down to the whole lines that fit into room bytes; false if there are none. */
bool log_feed_cut(struct log_feed *f, const struct log_state *st, size_t room,
    struct log_step *step_r);

/* The next step when the file cannot be written, for the reason err: counts what is lost. A line
 * that is in the file without its end is lost as a whole: after.cut is set. */
void log_feed_drop(struct log_feed *f, const struct log_state *st, int err,
    struct log_step *step_r);

#endif
