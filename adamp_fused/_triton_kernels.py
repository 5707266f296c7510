"""The Triton kernel: one launch updates every tensor of one device and dtype.

Mathematics: ``_formulas``. Tables: ``_triton_tables``. A program takes one item (whole rows, or a span of
a long row), updates the moments, and adds up the row sums. Where a tensor's outcome depends on other
items too, nothing waits for it: rows are updated at once under the tensor's last outcome, if they can be
taken back exactly enough, else left. The program that arrives last at a tensor decides it; what then
remains (all rows on another outcome, otherwise the rows left) is shared out, item by item, between that
program and the helpers that come later in the grid. No part of the result depends on which program does
what, and the words they meet in are zero again when the launch ends.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
from __future__ import annotations

import triton
import triton.language as tl

from adamp_fused import _formulas, _triton_tables
from adamp_fused._triton_tables import Numbers, Weight

moving_average = triton.jit(_formulas.moving_average)
adam_perturb = triton.jit(_formulas.adam_perturb)
cosine_below = triton.jit(_formulas.cosine_below)
radial_coefficient = triton.jit(_formulas.radial_coefficient)
shrinkage = triton.jit(_formulas.shrinkage)
apply_update = triton.jit(_formulas.apply_update)
recover_weight = triton.jit(_formulas.recover_weight)

NONE = tl.constexpr(_triton_tables.OFF)
CHANNEL = tl.constexpr(_triton_tables.CHANNEL)
LAYER = tl.constexpr(_triton_tables.LAYER)
AUTO = tl.constexpr(_triton_tables.AUTO)
#: In the place of an outcome: no row is updated before the tensor is decided.
HOLD = tl.constexpr(3)
#: In the place of an applied shrinkage: not applied. One that is applied is at most
#: ``REVERSIBLE`` in size; beyond that, taking it back would lose accuracy.
DEFERRED = tl.constexpr(2.0)
REVERSIBLE = tl.constexpr(0.5)

WEIGHT_FIELDS = tl.constexpr(len(Weight._fields))
NUMBERS_FIELDS = tl.constexpr(len(Numbers._fields))
STEP_FIELDS = tl.constexpr(_triton_tables.STEP_FIELDS)
SLOT_FIELDS = tl.constexpr(_triton_tables.SLOT_FIELDS)
