#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The supervisor core against the reference model of OTP's rules, in random histories; and the
# proof that this finds mistakes. `tests/sim/sim --seed S` plays a history again.

load helper

@test "simulator: the core does what the model does in 40,000 histories" {
	run timeout 120 "$COP_BUILDDIR/tests/sim/sim"
	echo "$output" | tail -n 60
	[ "$status" -eq 0 ]
}

@test "simulator: every seeded bug is found" {
	run timeout 300 sh "$COP_SRCDIR/tests/sim/mutants.sh"
	echo "$output" | grep -v '^ok'
	[ "$status" -eq 0 ]
}
