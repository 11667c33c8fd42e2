"""Every law meets an implementation that breaks it, right ones pass, and the reference obeys all of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from gradcheck import cases
from gradcheck.checks.laws import law, obeyed, proven
from gradcheck.explain import code_for
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, widen
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.laws import LAWS, Law, laws_of
from gradcheck.laws.activations import the_function_is_odd
from gradcheck.records import Case, Evidence, Verdict
from gradcheck.subjects import get_subject
from gradcheck.subjects.numpy import NUMPY

KNOWN = {formula.name for formula in CATALOGUE}
BY_NAME = {each.sides.__name__: each for each in LAWS}


def seen(formula, fmt, check, examples, largest=6, fixed=None):
    """Merge what a check sees of drawn cases."""
    total = Evidence()

    def run(case):
        nonlocal total
        total = total.merge(check(case))

    if formula.elementwise:
        strategy = cases.elementwise(formula, fmt, 60, fixed=fixed)
    else:
        strategy = cases.several_inputs(formula, fmt, largest, fixed=fixed)
    given(strategy)(settings(max_examples=examples, derandomize=True, database=None, deadline=None)(run))()
    return total


def liar(formula, fmt, value=None, vjp=None):
    """Our own text, its results spoilt on the way out."""
    honest = NUMPY.implement(formula, fmt)

    def forward(inputs, options):
        result = honest.forward(inputs, options)
        if value is None:
            return result
        spoilt = value(result, inputs, options)
        return tuple(map(stored, spoilt)) if isinstance(spoilt, tuple) else stored(spoilt)

    def stored(array):
        return np.asarray(array).astype(fmt.dtype)

    def backward(inputs, cotangent, options):
        gradients = honest.vjp(inputs, cotangent, options)
        if vjp is None:
            return gradients
        spoilt = vjp(list(gradients), inputs, widen(cotangent))
        return tuple(None if g is None else stored(g) for g in spoilt)

    return replace(honest, subject="liar", forward=forward, vjp=honest.vjp and backward)


def times(factor):
    return lambda y, inputs, options: widen(y) * factor


def plus(number):
    return lambda y, inputs, options: widen(y) + number


def first(change):
    """Spoil the first of several results."""
    return lambda y, inputs, options: (change(widen(y[0]), inputs, options), *y[1:])


def gradient(place, change):
    def spoil(gradients, inputs, cotangent):
        gradients[place] = change(widen(gradients[place]), inputs, cotangent)
        return gradients

    return spoil


def more(g, inputs, cotangent):
    return g * 1.25


def shifted(g, inputs, cotangent):
    return g + 0.25


def channel_means(y, inputs, options):
    x = widen(inputs[0])
    return widen(y) + 0.25 * np.mean(x)


def channel_spread(y, inputs, options):
    return widen(y) + 0.25 * np.max(np.abs(widen(inputs[0])))


LIARS = {
    "the_function_is_odd": ("tanh", plus(0.25), None),
    "the_function_and_its_mirror_image_sum_to_one": ("sigmoid", times(1.25), None),
    "the_function_less_its_mirror_image_is_the_input": ("silu", times(1.25), None),
    "applying_it_again_changes_nothing": ("relu", plus(0.25), None),
    "the_backward_pass_is_the_adjoint_of_the_forward_pass": ("dense", None, gradient(0, more)),
    "the_gradient_of_the_weight_is_the_adjoint_in_the_weight": ("conv1d", None, gradient(1, more)),
    "a_convolution_is_a_matrix": ("conv1d", plus(0.25), None),
    "a_sum_of_inputs_gives_the_sum_of_results": ("dense", plus(0.25), None),
    "the_gradient_of_a_window_goes_to_its_elements_whole": ("max_pool1d", None, gradient(0, more)),
    "the_gradient_at_ties_is_handed_on_whole": ("max_pool2d", None, gradient(0, more)),
    "the_backward_pass_drops_by_the_same_mask": ("dropout", None, gradient(0, lambda g, inputs, c: c)),
    "a_mask_and_its_opposite_average_to_the_input": ("dropout", times(0.5), None),
    "a_shift_of_the_input_changes_nothing": ("batch_norm", channel_means, None),
    "a_scale_of_the_input_changes_nothing": ("layer_norm", channel_spread, None),
    "the_gradient_of_a_channel_sums_to_zero": ("batch_norm", None, gradient(0, shifted)),
    "the_gradient_along_the_result_is_what_epsilon_leaves": (
        "batch_norm",
        None,
        gradient(0, lambda g, inputs, c: c * widen(inputs[0])),
    ),
    "the_gradient_of_the_shift_is_the_sum_of_the_cotangent": ("batch_norm", None, gradient(2, more)),
    "the_gradient_of_the_scale_is_the_sum_of_c_x_hat": ("batch_norm", None, gradient(1, more)),
    "a_shift_changes_nothing": ("softmax", channel_spread, None),
    "a_shift_comes_out_again": ("logsumexp", times(1.25), None),
    "the_shares_sum_to_one": ("softmax", times(1.25), None),
    "the_exponentials_sum_to_one": ("log_softmax", plus(0.25), None),
    "the_jacobian_is_diag_y_minus_y_y_transposed": ("softmax", None, gradient(0, lambda g, i, c: c)),
    "the_gradient_sums_to_zero": ("log_softmax", None, gradient(0, shifted)),
    "equal_batches_average_to_the_gradient_of_all": (
        "mse_loss",
        None,
        gradient(0, lambda g, inputs, c: g * g.size),
    ),
    "the_mean_is_the_sum_over_the_number": (
        "l1_loss",
        lambda y, inputs, options: widen(y) * (1.25 if options["reduction"] == "mean" else 1),
        None,
    ),
    "the_gradient_of_a_sample_sums_to_zero": ("cross_entropy", None, gradient(0, shifted)),
    "the_weights_along_their_gradient_give_twice_the_penalty": ("l2_penalty", None, gradient(0, more)),
    "the_weights_along_their_gradient_give_the_penalty": ("l1_penalty", None, gradient(0, more)),
    "clipping_again_changes_nothing": ("clip_by_value", times(0.5), None),
    "what_is_zero_stays_zero": ("clip_by_value", plus(0.25), None),
    "no_element_changes_its_sign": ("clip_by_value", times(-1), None),
    "no_element_grows": ("clip_by_value", times(2), None),
    "two_gradients_come_no_further_apart": (
        "clip_by_value",
        lambda y, inputs, options: np.sign(widen(inputs[0])) * 4,
        None,
    ),
    "the_direction_is_kept": (
        "clip_by_norm",
        lambda y, inputs, options: np.clip(widen(inputs[0]), -0.25, 0.25),
        None,
    ),
    "the_norm_is_at_most_the_threshold": ("clip_by_norm", times(1.25), None),
    "all_arrays_shrink_by_one_factor": (
        "clip_by_global_norm",
        first(lambda y, inputs, options: widen(inputs[0])),
        None,
    ),
    "a_scale_of_the_gradients_does_not_change_the_step": (
        "adam",
        first(lambda y, inputs, options: y + widen(inputs[1])),
        None,
    ),
    "without_momentum_adam_is_rmsprop_with_a_corrected_rate": (
        "adam",
        first(lambda y, inputs, options: widen(inputs[0]) + (y - widen(inputs[0])) / 2),
        None,
    ),
    "the_printed_step_is_adams_after_the_substitution": (
        "printed_adam",
        first(lambda y, inputs, options: widen(inputs[0]) + (y - widen(inputs[0])) / 2),
        None,
    ),
    "without_decay_adamw_is_adam": ("adamw", first(lambda y, inputs, options: y * 0.75), None),
    "l2_decay_is_decoupled_decay": ("sgd", first(lambda y, inputs, options: y * 0.75), None),
    "ascent_is_descent_along_the_negative_gradient": (
        "sgd",
        first(lambda y, inputs, options: y * (0.75 if options.get("maximize") else 1)),
        None,
    ),
    "no_step_is_longer_than_its_bound": ("adam", first(times(4)), None),
}


def test_every_law_has_a_liar_and_every_formula_of_a_law_is_known():
    assert set(LIARS) == set(BY_NAME) and len(BY_NAME) == len(LAWS)
    assert {name for each in LAWS for name in each.formulas} <= KNOWN


TOLD = list(zip(LIARS, itertools.cycle([FLOAT64, BFLOAT16, FLOAT32]), strict=False))


@pytest.mark.parametrize(("name", "fmt"), TOLD)
def test_a_law_catches_who_breaks_it(name, fmt):
    formula_name, value, vjp = LIARS[name]
    each, formula = BY_NAME[name], get_formula(formula_name)
    lying = liar(formula, fmt, value, vjp)
    found = seen(formula, fmt, lambda case: obeyed(each, lying, formula, case), 10)
    assert found.verdict is Verdict.WRONG
    assert found.worst.context == each.sentence


@pytest.mark.parametrize("name", LIARS)
def test_a_law_lets_the_honest_pass(name):
    each, formula = BY_NAME[name], get_formula(LIARS[name][0])
    honest = NUMPY.implement(formula, FLOAT32)
    found = seen(formula, FLOAT32, lambda case: obeyed(each, honest, formula, case), 6)
    assert not found.verdict.is_finding and not found.outside_accepted and found.compared > 0


@pytest.mark.parametrize("name", sorted({name for each in LAWS for name in each.formulas} & KNOWN))
def test_the_reference_obeys_its_laws(name):
    formula = get_formula(name)
    found = seen(formula, FLOAT64, lambda case: law(formula, case), 3, largest=3)
    assert found.verdict is Verdict.ACCURATE and found.compared > 0


@pytest.mark.parametrize("name", ["dense", "batch_norm", "softmax", "max_pool2d", "clip_by_norm", "mse_loss"])
def test_torch_obeys_the_laws(name):
    pytest.importorskip("torch")
    formula, subject = get_formula(name), get_subject("torch-cpu")
    made = subject.implement(formula, FLOAT32)
    found = seen(formula, FLOAT32, lambda case: law(made, formula, case), 4, fixed=dict(made.options))
    assert not found.verdict.is_finding and found.compared > 0


def test_a_false_law_is_disproved_of_the_reference():
    def tanh_is_even(f, inputs, options):
        x = np.nan_to_num(inputs[0], nan=0.0, posinf=1.0, neginf=-1.0)
        return f.value(x, **options), f.value(-x, **options)

    formula = get_formula("tanh")
    found = seen(formula, FLOAT64, lambda case: proven(Law(("tanh",), tanh_is_even), formula, case), 2)
    assert found.verdict is Verdict.WRONG and found.worst.context == "tanh is even"


def test_a_law_is_broken_by_a_reference_that_is_off_by_1e_25():
    from gradcheck.arithmetic.exact import exact

    formula = get_formula("tanh")
    off = replace(formula, value=lambda x: formula.value(x) + exact("1e-25"))
    odd = Law(("tanh",), the_function_is_odd)
    assert seen(off, FLOAT64, lambda case: proven(odd, off, case), 2).verdict is Verdict.WRONG


def test_an_implementation_that_raises_or_answers_in_another_shape_is_a_finding():
    formula = get_formula("tanh")
    (odd,) = laws_of("tanh")

    def fails(inputs, options):
        raise RuntimeError("no")

    honest = NUMPY.implement(formula, FLOAT32)
    for forward, breach in ((fails, "raised"), (lambda inputs, options: inputs[0][:1] * 2, "shape")):
        made = replace(honest, subject="liar", forward=forward)
        found = seen(formula, FLOAT32, lambda case, made=made: obeyed(odd, made, formula, case), 2)
        assert found.verdict is Verdict.WRONG and breach in found.breaches


def test_a_nan_does_not_pass():
    formula = get_formula("tanh")
    lying = liar(formula, FLOAT32, lambda y, inputs, options: widen(y) * np.nan)
    (odd,) = laws_of("tanh")
    assert seen(formula, FLOAT32, lambda case: obeyed(odd, lying, formula, case), 2).verdict is Verdict.WRONG


def test_an_element_that_decides_nothing_does_not_silence_the_others():
    softsign, largest = get_formula("softsign"), float(FLOAT32.largest)
    (odd,) = laws_of("softsign")
    x = np.array([0.5, -2.0, largest, -largest], np.float32)
    case = cases.Case("plain", FLOAT32, (x,))
    honest = law(NUMPY.implement(softsign, FLOAT32), softsign, case)
    assert honest.verdict is Verdict.ACCURATE and 0 < honest.compared < 4 and honest.resolution < 1e-5
    lying = liar(softsign, FLOAT32, plus(2.0**-12))
    assert obeyed(odd, lying, softsign, case).verdict is Verdict.WRONG


def test_broken_laws_have_codes():
    assert code_for("law", Verdict.WRONG, {}) == "LAW-WRONG"
    assert code_for("law", Verdict.UNSTABLE, {}) == "LAW-UNSTABLE"


def test_a_subject_may_flush_subnormal_numbers_if_it_says_so():
    formula = get_formula("relu")
    x = np.array([1e-40, -1e-40, 9e-39, -3e-39], np.float32)
    case = Case("subnormal", FLOAT32, (x,), np.ones_like(x))
    flushing = liar(
        formula, FLOAT32, lambda y, inputs, options: np.where(y < FLOAT32.least_normal, 0.0, widen(y))
    )
    assert law(flushing, formula, case).verdict.is_finding
    allowed = law(replace(flushing, flushes=True), formula, case)
    assert allowed.compared and not allowed.verdict.is_finding
