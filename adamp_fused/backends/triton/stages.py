"""The stages of a step on Triton blocks: load, accumulate, decide, apply, and roll back.

Mathematics: ``formulas``, compiled from the very functions the reference backend runs. ``w`` is
the :class:`Weight` of the program's tensor and ``n`` its :class:`Numbers`; addresses are int64,
since they come out of a table.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# No `from __future__ import annotations`: Triton reads the annotations below.

from types import FunctionType

import triton
import triton.language as tl

from adamp_fused.backends import formulas
from adamp_fused.backends.protocol import Field
from adamp_fused.backends.triton import tables
from adamp_fused.backends.triton.tables import Numbers, Part, Weight


def device(function):
    """``triton.jit`` for what kernels call.

    Triton's interpreter sets up ``tl`` anew at each such call, which takes most of its time; the
    kernel has set it up already, so there the rewritten function itself is called.
    """
    compiled = triton.jit(function)
    return compiled if isinstance(compiled, triton.JITFunction) else compiled.rewrite()


_FORMULAS: dict[str, object] = {}


def _formula(function):
    """A formula for use in kernels; the formulas that it calls have been made before it.

    What it calls ``torch`` is ``tl`` here. Triton's interpreter looks for ``tl`` among a function's
    globals, and its compiler looks up what annotations name, which must then be something it knows.
    """
    names = {**function.__globals__, "tl": tl, "torch": tl, "Any": tl, **_FORMULAS}
    own = FunctionType(function.__code__, names, function.__name__)
    own.__module__ = function.__module__
    _FORMULAS[function.__name__] = device(own)
    return _FORMULAS[function.__name__]


moving_average = _formula(formulas.moving_average)
adam_perturb = _formula(formulas.adam_perturb)
cosine_below = _formula(formulas.cosine_below)
abs_cosine = _formula(formulas.abs_cosine)
removed_by = _formula(formulas.removed_by)
outcome_of = _formula(formulas.decide)
radial_under = _formula(formulas.radial_under)
decay_under = _formula(formulas.decay_under)
radial_coefficient = _formula(formulas.radial_coefficient)
radial_part = _formula(formulas.radial_part)
shrinkage = _formula(formulas.shrinkage)
apply_update = _formula(formulas.apply_update)
recover_weight = _formula(formulas.recover_weight)
clip_coefficient = _formula(formulas.clip_coefficient)

NONE = tl.constexpr(tables.OFF)
CHANNEL = tl.constexpr(tables.CHANNEL)
LAYER = tl.constexpr(tables.LAYER)
AUTO = tl.constexpr(tables.AUTO)
ADAMP, SGDP = (tl.constexpr(tables.METHODS[name]) for name in ("adamp", "sgdp"))
#: In the place of an outcome: no row is updated before the tensor is decided.
HOLD = tl.constexpr(3)
#: In the place of an applied shrinkage: not applied. Only shrinkages up to ``REVERSIBLE`` are
#: applied on speculation; taking a larger one back would lose accuracy.
DEFERRED = tl.constexpr(2.0)
REVERSIBLE = tl.constexpr(0.5)

#: What sums of parts are: ``protocol.Field``. Those of rows begin with ``PP``.
STEPPERS, FAILED_ROWS, PP, GG, PG, PU = (tl.constexpr(int(field)) for field in Field)

WEIGHT_FIELDS = tl.constexpr(len(Weight._fields))
PART_FIELDS = tl.constexpr(len(Part._fields))
HEAD_FIELDS = tl.constexpr(tables.HEAD_FIELDS)
STEP_FIELDS = tl.constexpr(tables.STEP_FIELDS)


@device
def load_weight(weights, index):
    """Row ``index`` of the table of tensors."""
    at = weights + index * WEIGHT_FIELDS
    return Weight(
        p=tl.load(at),
        m=tl.load(at + 1),
        v=tl.load(at + 2),
        view=tl.load(at + 3),
        rows=tl.load(at + 4),
        cols=tl.load(at + 5),
        spans=tl.load(at + 6),
        tile_rows=tl.load(at + 7),
        tiles=tl.load(at + 8),
        helpers=tl.load(at + 9),
        mode=tl.load(at + 10),
        shared=tl.load(at + 11),
        aligned=tl.load(at + 12),
        scratch=tl.load(at + 13),
        words=tl.load(at + 14),
        channel_root=tl.load(at + 15).to(tl.float64, bitcast=True),
        layer_root=tl.load(at + 16).to(tl.float64, bitcast=True),
    )


@device
def part_at(parts, index):
    """Where row ``index`` of the table of parts is; None where the launch has no such table."""
    at = None
    if parts is not None:
        at = parts + index * PART_FIELDS
    return at


@device
def load_part(at):
    """A row of the table of parts."""
    return Part(sums=tl.load(at), row_sums=tl.load(at + 1))


@device
def sums_at(address, field: tl.constexpr):
    """Where one of the sums at an address of a :class:`Part` is."""
    return address.to(tl.pointer_type(tl.float64)) + field


@device
def row_sums_at(part, row, field: tl.constexpr):
    """The same of rows, of each of which there are ``PP`` to ``PU``."""
    return sums_at(part.row_sums, field - PP) + row * (PU - PP + 1)


@device
def load_or(address, otherwise, TYPE: tl.constexpr):
    """The number at an address as float64; ``otherwise`` where that is 0."""
    at = address.to(tl.pointer_type(TYPE))
    return tl.load(at, mask=address != 0, other=otherwise).to(tl.float64)


@device
def power(base, exponent):
    """A float64 to a whole exponent of at least 0, by squaring; ``power`` in csrc/core."""
    result = base * 0.0 + 1.0
    while exponent > 0:
        result = tl.where((exponent & 1) != 0, result * base, result)
        base *= base
        exponent = exponent >> 1
    return result


@device
def bias_correction(beta, count):
    """``1 - beta^count``, all in float64."""
    return 1.0 - power(beta, count.to(tl.int64))


@device
def is_skipped(step_table, CONTROLLED: tl.constexpr):
    """1 where an infinite gradient has been found, else 0."""
    skipped = 0
    if CONTROLLED:
        skipped = (load_or(tl.load(step_table + 1), 0.0, tl.float32) != 0).to(tl.int32)
    return skipped


@device
def unscaling(step_table):
    """The inverse of the scale, rounded as GradScaler.unscale_ rounds it, as float64."""
    inverse = 1.0 / load_or(tl.load(step_table), 1.0, tl.float32)
    return inverse.to(tl.float32).to(tl.float64)


@device
def load_numbers(step_table, index, REAL: tl.constexpr, CONTROLLED: tl.constexpr):
    """The numbers of tensor ``index`` at this step, in the type of the arithmetic."""
    own = step_table + HEAD_FIELDS + index * STEP_FIELDS
    at = (step_table + tl.load(own + 1)).to(tl.pointer_type(tl.float64))
    # Products in float64, as on the host: a learning rate on the device must not cost accuracy.
    lr = load_or(tl.load(own + 2), 1.0, tl.float32)
    lr_decay = lr * load_or(tl.load(own + 3), 1.0, tl.float32)
    factor, inv_root_bias_correction2 = tl.load(at + 10), tl.load(at + 4)
    if CONTROLLED:
        factor *= unscaling(step_table) * load_or(tl.load(step_table + 3), 1.0, tl.float64)
        count_address = tl.load(own + 4)
        if count_address != 0:
            count = load_or(count_address, 0.0, REAL) + 1.0
            lr /= bias_correction(tl.load(at), count)
            inv_root_bias_correction2 = 1.0 / tl.sqrt(bias_correction(tl.load(at + 2), count))
    return Numbers(
        beta1=tl.load(at).to(REAL),
        one_minus_beta1=tl.load(at + 1).to(REAL),
        beta2=tl.load(at + 2).to(REAL),
        one_minus_beta2=tl.load(at + 3).to(REAL),
        inv_root_bias_correction2=inv_root_bias_correction2.to(REAL),
        eps=tl.load(at + 5).to(REAL),
        step_size=(tl.load(at + 6) * lr).to(REAL),
        decay=(tl.load(at + 7) * lr_decay).to(REAL),
        decay_projected=(tl.load(at + 8) * lr_decay).to(REAL),
        delta=tl.load(at + 9),
        factor=factor.to(REAL),
        nesterov=tl.load(at + 11) != 0,
        project_buffer=tl.load(at + 12) != 0,
    )


@device
def pointer(base, start, offset, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Pointers to elements ``start + offset`` of the tensor at ``base``; ``start`` is int64."""
    at = (base + start * (DTYPE.primitive_bitwidth // 8)).to(tl.pointer_type(DTYPE))
    if ALIGNED:
        # What came out of a table is not known to be aligned, and would be read 4 bytes at a time.
        at = tl.multiple_of(at, 16)
    return at + offset


@device
def whole_vectors(count, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """``count``, which is known to be a multiple of a 16-byte vector if ALIGNED, provably so."""
    if ALIGNED:
        vector: tl.constexpr = 128 // DTYPE.primitive_bitwidth
        count = count // vector * vector
    return count


@device
def load_real(base, start, offset, inside, like, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Elements of a tensor in the type of the arithmetic, which is that of ``like``.

    Not through L1: a helper may read what another SM has just written.
    """
    at = pointer(base, start, offset, DTYPE, ALIGNED)
    return tl.load(at, mask=inside, other=0.0, cache_modifier=".cg").to(like.dtype)


@device
def store_real(base, start, offset, inside, value, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Round to storage, once."""
    tl.store(pointer(base, start, offset, DTYPE, ALIGNED), value.to(DTYPE), mask=inside)


@device
def root(x):
    """Square root, correctly rounded: the default of float32 is an approximation."""
    if x.dtype == tl.float64:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@device
def perturb(m, v, g, n, METHOD: tl.constexpr):
    """``u`` from the moments as stored."""
    if METHOD == ADAMP:
        m = tl.where(n.nesterov, moving_average(m, g, n.beta1, n.one_minus_beta1), m)
        u = adam_perturb(m, root(v), n.inv_root_bias_correction2, n.eps)
    elif METHOD == SGDP:
        u = tl.where(n.nesterov, moving_average(m, g, n.beta1, 1), m)
    return u


@device
def accumulate(
    w, grad, n, start, offset, inside,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Read a block and move its moments: ``p, g, u, m``, of which m is not stored yet.

    The moments are rounded to storage before they enter ``u``, so that whoever comes back to this
    block computes the same.
    """
    p = load_real(w.p, start, offset, inside, n.eps, DTYPE, ALIGNED)
    g = n.factor * load_real(grad, start, offset, inside, n.eps, DTYPE, ALIGNED)
    m = load_real(w.m, start, offset, inside, n.eps, DTYPE, ALIGNED)
    m = moving_average(m, g, n.beta1, n.one_minus_beta1).to(DTYPE).to(n.eps.dtype)
    v = m
    if METHOD == ADAMP:
        v = load_real(w.v, start, offset, inside, n.eps, DTYPE, ALIGNED)
        v = moving_average(v, g * g, n.beta2, n.one_minus_beta2).to(DTYPE).to(n.eps.dtype)
        store_real(w.v, start, offset, inside, v, DTYPE, ALIGNED)
    # Past the end 0/0 is possible: without eps.
    return p, g, tl.where(inside, perturb(m, v, g, n, METHOD), 0.0), m


@device
def norms(pp, gg, n):
    """The norms of rows as the cosine test takes them: clamped so that a NaN stays one."""
    norm_p, norm_g = root(pp), root(gg)
    norm_p = tl.where(norm_p < n.eps, n.eps, norm_p)
    norm_g = tl.where(norm_g < n.eps, n.eps, norm_g)
    return norm_p, norm_g


@device
def row_passes(pp, gg, pg, row_root, n):
    """1 where rows with these sums pass the cosine test, else 0; ``row_root`` is 1/sqrt(length)."""
    norm_p, norm_g = norms(pp, gg, n)
    below = cosine_below(pg, norm_p, norm_g, (n.delta * row_root).to(n.eps.dtype))
    return below.to(tl.int32)


@device
def decide(w, n, pp, gg, pg, pu, failed_rows):
    """The outcome of a tensor from its totals, and the radial coefficient of the layer view."""
    layer = row_passes(pp, gg, pg, w.layer_root, n)
    tested = outcome_of(failed_rows == 0, layer != 0)
    # A mode other than AUTO is its own outcome.
    outcome = tl.where(w.mode == AUTO, tested, w.mode).to(tl.int32)
    return outcome, radial_coefficient(pu, root(pp), n.eps)


@device
def coefficients(outcome, row_radial, layer_radial, n):
    """Radial coefficient, shrinkage and weight decay of rows under an outcome."""
    radial = radial_under(outcome, row_radial, layer_radial)
    decay = decay_under(outcome, n.decay, n.decay_projected)
    return radial, tl.where(outcome == NONE, decay, shrinkage(decay, n.step_size, radial)), decay


@device
def prediction(w, DTYPE: tl.constexpr):
    """The outcome to update rows under before a shared tensor is decided.

    Its last one, where the sums of a row suffice for it. Weights of 2 bytes are never updated on
    speculation: what they were cannot be recovered from so few digits.
    """
    speculate = (w.mode == AUTO) & (DTYPE.primitive_bitwidth >= 32)
    view = tl.load(w.view.to(tl.pointer_type(tl.int32)), mask=speculate, other=HOLD)
    return tl.where((view == NONE) | (view == CHANNEL), view, HOLD)


@device
def fix_up_block(
    w, grad, n, start, offset, inside, todo, radial, shrink, decay, applied_radial, applied_shrink,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Come back to a block whose moments are stored, and bring its rows ``todo`` to an outcome.

    What was applied to them on speculation, ``applied_radial`` and ``applied_shrink``, is rolled
    back first (DEFERRED: nothing was).
    """
    p = load_real(w.p, start, offset, inside, n.eps, DTYPE, ALIGNED)
    m = load_real(w.m, start, offset, inside, n.eps, DTYPE, ALIGNED)
    g, v = m, m
    if n.nesterov:
        g = n.factor * load_real(grad, start, offset, inside, n.eps, DTYPE, ALIGNED)
    if METHOD == ADAMP:
        v = load_real(w.v, start, offset, inside, n.eps, DTYPE, ALIGNED)
    u = perturb(m, v, g, n, METHOD)
    applied = applied_shrink != DEFERRED
    applied_decay = applied_shrink
    if n.project_buffer:
        # What was read for u is u - k*p then; with that, the weight was changed by the decay alone.
        applied_decay += n.step_size * applied_radial
    p_old = tl.where(applied, recover_weight(p, u, applied_decay, n.step_size), p)
    if n.project_buffer:
        u = tl.where(applied, u + radial_part(p_old, applied_radial), u)
    p = tl.where(todo, apply_update(p_old, u, shrink, n.step_size, radial, decay), p)
    store_real(w.p, start, offset, inside, p, DTYPE, ALIGNED)
    if n.project_buffer:
        m = tl.where(todo, u - radial_part(p_old, radial), m)
        store_real(w.m, start, offset, inside, m, DTYPE, ALIGNED)
