# The numbers of an optimizer, and of its present step.

from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memset

from kernels.nnk cimport NNK_adam, nnk_step, nnk_update_facts
from nnkern._matrix cimport Reduce

cdef struct Optimizer:
    int update                      # nnk.h's
    double rate, momentum, beta1, beta2, eps, weight_decay
    bint raw_eps                    # adam's ε is added to √v itself, before the correction of its start
    double l2_of_sum                # a penalty l2_of_sum/2 Σ‖W[l]‖² on Σ w_i L_i of a batch rather than on its mean …
    double l2                       # … which is l2_of_sum / Σ w_i on the mean of the present batch
    double corrected_rate, corrected_eps, root      # of the present step
    double clip_value, clip_norm    # infinite where the gradient isn't clipped
    void *s1
    void *s2

# An update that goes along with the backward pass. Among several processes `reduce` sums each block of a gradient
# before it is applied, and gradients of fewer than `least` entries stay where they are.
cdef struct Applied:
    const Optimizer *optimizer
    Reduce reduce                   # NULL where this process trains alone
    void *owner                     # what `reduce` is called with
    Py_ssize_t least
    double penalty                  # out: of the weights before it
    bint lost                       # out: whether a sum has failed; nothing is applied from there on


cdef inline bint clips(const Optimizer *optimizer) noexcept nogil:
    return isfinite(optimizer.clip_value) or isfinite(optimizer.clip_norm)


cdef inline void begin_step(Optimizer *optimizer, uint64_t t) noexcept nogil:
    """The numbers of the t-th step (from 1) that all parameters share: Adam's corrections of its start."""
    optimizer.corrected_rate, optimizer.corrected_eps, optimizer.root = optimizer.rate, optimizer.eps, 1
    if optimizer.update == NNK_adam:
        optimizer.corrected_rate /= 1 - pow(optimizer.beta1, <double>t)
        optimizer.root = sqrt(1 - pow(optimizer.beta2, <double>t))
        if optimizer.raw_eps:
            optimizer.corrected_eps /= optimizer.root


cdef inline nnk_step step_numbers(
    const Optimizer *optimizer, double rate, double held, bint decays, double l2, double l1,
) noexcept nogil:
    """The numbers of the step that has begun for a parameter, with its penalty and its factor on the learning rate.

    A parameter θ that is trained as θ' = cθ, c = `held`, has the gradient g/c there, and θ moves by 1/c of what θ'
    does: α g/c², or where the update divides by the gradient's size, α (g/c) / (|g|/c + ε) / c = α/c g / (|g| + cε).
    """
    cdef nnk_step step
    memset(&step, 0, sizeof(step))
    step.rate, step.inertia = optimizer.corrected_rate * rate / held, optimizer.momentum
    step.eps = optimizer.corrected_eps * held
    if not nnk_update_facts[optimizer.update].has_s2:
        step.rate /= held
    step.beta1, step.beta2, step.root = optimizer.beta1, optimizer.beta2, optimizer.root
    step.shrink = 1 - optimizer.rate * rate * optimizer.weight_decay if decays else 1
    step.l2, step.l1 = l2, l1
    return step
