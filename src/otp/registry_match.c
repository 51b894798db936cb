/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Terms compared, and guards of match specifications. Pure. */
#include <limits.h>

#include "otp/registry_private.h"

#define DEPTH_MAX 32

int cop_term_compare(struct cop_term a, struct cop_term b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int r;

	if (a.type != b.type)
		return a.type < b.type ? -1 : 1;
	switch ((enum cop_term_type)a.type) {
	case COP_TERM_INT:
		return (a.number > b.number) - (a.number < b.number);
	case COP_TERM_NIL:
		return 0;
	case COP_TERM_PID:
		return (a.pid.id > b.pid.id) - (a.pid.id < b.pid.id);
	case COP_TERM_BYTES:
		break;
	}
	r = len ? memcmp(a.data, b.data, len) : 0;
	return r != 0 ? r : (a.len > b.len) - (a.len < b.len);
}

static int operands(uint8_t op)
{
	if (op <= COP_X_SELF)
		return 0;
	return op <= COP_X_BNOT ? 1 : 2;
}

static bool is_sane(const struct cop_expr *x, int depth)
{
	if (!x || x->op >= COP_X_END || depth > DEPTH_MAX)
		return false;
	return (operands(x->op) < 1 || is_sane(x->a, depth + 1)) && (operands(x->op) < 2 || is_sane(x->b, depth + 1));
}

bool registry_guard_is_sane(const struct cop_expr *guard)
{
	return !guard || is_sane(guard, 1);
}

/* --- values --- */

/* What an expression is: a term, or true or false. */
struct result {
	bool good, is_truth, truth;
	struct cop_term term;
};

static const struct result bad;

static struct result truth(bool is)
{
	return (struct result){ .good = true, .is_truth = true, .truth = is };
}

static struct result term(struct cop_term t)
{
	return (struct result){ .good = true, .term = t };
}

static struct result number(bool overflow, int64_t n)
{
	return overflow ? bad : term(cop_int(n));
}

static bool is_int(const struct result *r)
{
	return r->good && !r->is_truth && r->term.type == COP_TERM_INT;
}

static struct result evaluate(const struct cop_expr *x, const struct cop_entry *e);

static struct result unary(const struct cop_expr *x, const struct cop_entry *e)
{
	struct result a = evaluate(x->a, e);

	if (!a.good)
		return bad;
	switch ((int)x->op) {
	case COP_X_NOT:
		return a.is_truth ? truth(!a.truth) : bad;
	case COP_X_IS_INTEGER:
		return truth(!a.is_truth && a.term.type == COP_TERM_INT);
	case COP_X_IS_NIL:
		return truth(!a.is_truth && a.term.type == COP_TERM_NIL);
	case COP_X_IS_PID:
		return truth(!a.is_truth && a.term.type == COP_TERM_PID);
	case COP_X_IS_BINARY:
		return truth(!a.is_truth && a.term.type == COP_TERM_BYTES);
	case COP_X_BYTE_SIZE:
		return a.is_truth || a.term.type != COP_TERM_BYTES ? bad : term(cop_int((int64_t)a.term.len));
	case COP_X_ABS:
		if (!is_int(&a) || a.term.number == INT64_MIN)
			return bad;
		return term(cop_int(a.term.number < 0 ? -a.term.number : a.term.number));
	default:
		return is_int(&a) ? term(cop_int(~a.term.number)) : bad;
	}
}

static struct result logic(const struct cop_expr *x, const struct cop_entry *e)
{
	struct result a = evaluate(x->a, e), b;

	if (!a.good || !a.is_truth)
		return bad;
	if (x->op == COP_X_ANDALSO && !a.truth)
		return a;
	if (x->op == COP_X_ORELSE && a.truth)
		return a;
	b = evaluate(x->b, e);
	if (!b.good || !b.is_truth)
		return bad;
	if (x->op == COP_X_XOR)
		return truth(a.truth != b.truth);
	return truth(x->op == COP_X_OR || x->op == COP_X_ORELSE ? a.truth || b.truth : a.truth && b.truth);
}

static struct result compare(uint8_t op, const struct result *a, const struct result *b)
{
	int r;

	if (a->is_truth || b->is_truth) {
		/* atoms: equal to themselves only; an order of them and terms is nothing that is asked for */
		bool same = a->is_truth && b->is_truth && a->truth == b->truth;

		return op == COP_X_EQ ? truth(same) : op == COP_X_NE ? truth(!same) : bad;
	}
	r = cop_term_compare(a->term, b->term);
	switch ((int)op) {
	case COP_X_EQ:
		return truth(r == 0);
	case COP_X_NE:
		return truth(r != 0);
	case COP_X_LT:
		return truth(r < 0);
	case COP_X_LE:
		return truth(r <= 0);
	case COP_X_GT:
		return truth(r > 0);
	default:
		return truth(r >= 0);
	}
}

static struct result shift(int64_t a, int64_t by)
{
	if (by < 0)
		return by < -63 ? number(false, a < 0 ? -1 : 0) : number(false, a >> -by);
	if (a != 0 && (by > 62 || a > INT64_MAX >> by || a < INT64_MIN >> by))
		return bad;
	return number(false, a == 0 ? 0 : (int64_t)((uint64_t)a << by));
}

static struct result sum(uint8_t op, int64_t a, int64_t b)
{
	int64_t n = 0;

	switch ((int)op) {
	case COP_X_ADD:
		return __builtin_add_overflow(a, b, &n) ? bad : number(false, n);
	case COP_X_SUB:
		return __builtin_sub_overflow(a, b, &n) ? bad : number(false, n);
	case COP_X_MUL:
		return __builtin_mul_overflow(a, b, &n) ? bad : number(false, n);
	case COP_X_DIV:
		return b == 0 || (a == INT64_MIN && b == -1) ? bad : number(false, a / b);
	case COP_X_REM:
		return b == 0 ? bad : number(false, b == -1 ? 0 : a % b);
	case COP_X_BAND:
		return number(false, a & b);
	case COP_X_BOR:
		return number(false, a | b);
	case COP_X_BXOR:
		return number(false, a ^ b);
	case COP_X_BSL:
		return b == INT64_MIN ? bad : shift(a, b);
	default:
		return b == INT64_MIN ? bad : shift(a, -b);
	}
}

static struct result binary(const struct cop_expr *x, const struct cop_entry *e)
{
	struct result a = evaluate(x->a, e), b = evaluate(x->b, e);

	if (!a.good || !b.good)
		return bad;
	if (x->op <= COP_X_GE)
		return compare(x->op, &a, &b);
	if (x->op == COP_X_PREFIX) {
		if (a.is_truth || b.is_truth || a.term.type != COP_TERM_BYTES || b.term.type != COP_TERM_BYTES)
			return bad;
		return truth(b.term.len <= a.term.len &&
		    (b.term.len == 0 || memcmp(a.term.data, b.term.data, b.term.len) == 0));
	}
	return is_int(&a) && is_int(&b) ? sum(x->op, a.term.number, b.term.number) : bad;
}

static struct result evaluate(const struct cop_expr *x, const struct cop_entry *e)
{
	switch ((int)x->op) {
	case COP_X_TERM:
		return term(x->term);
	case COP_X_KEY:
		return term(e->key);
	case COP_X_PID:
		return term(cop_pid_term(e->pid));
	case COP_X_VALUE:
		return term(e->value);
	case COP_X_SELF:
		return term(cop_pid_term((cop_pid){ proc.id }));
	case COP_X_AND:
	case COP_X_OR:
	case COP_X_XOR:
	case COP_X_ANDALSO:
	case COP_X_ORELSE:
		return logic(x, e);
	default:
		return operands(x->op) == 1 ? unary(x, e) : binary(x, e);
	}
}

bool registry_matches(const struct cop_match *m, const struct cop_entry *e)
{
	struct result r;

	if ((m->key && cop_term_compare(*m->key, e->key) != 0) ||
	    (m->value && cop_term_compare(*m->value, e->value) != 0) || (m->pid && m->pid->id != e->pid.id))
		return false;
	if (!m->guard)
		return true;
	r = evaluate(m->guard, e);
	return r.good && r.is_truth && r.truth;
}
