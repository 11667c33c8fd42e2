"""The codes of findings about gradients: what each means, how it was reached, what to do about it.

A closed list, in the form of `gradcheck.explain`. A code is never given a second meaning.
"""

from __future__ import annotations

from gradcheck.explain import Explanation, explain

_HOOKS = "Hooks on the tensors of a copy of the model kept the gradient of every layer's output."
_DRAWN = "Networks were drawn, run forward and backward in float64, and ln ‖g‖² of every layer was kept."

FLOW_CODES: tuple[Explanation, ...] = (
    Explanation(
        "FLOW-DEAD",
        "Some networks pass no gradient at all.",
        "In one layer the slope of every unit is 0, so that nothing comes through; training cannot "
        "repair it.",
        _DRAWN + " A gradient that is exactly zero counts as dead, apart from all other statistics.",
        "Make layers wider, or take an activation whose slope is nowhere 0; with ReLU a layer of N "
        "units dies with the probability 2^-N for one input.",
    ),
    Explanation(
        "FLOW-BROKEN",
        "A layer's values or gradients are infinite or NaN, in float64.",
        "The forward pass overflows, or an operation has no value or no slope where it was used.",
        _DRAWN
        + " The layer named is the first of the forward pass, or the last of the backward pass, that is "
        "not finite.",
        "Look at the layer named: a root or logarithm of what may be 0 or negative, a quotient, or "
        "weights whose variance makes the values grow without end.",
    ),
    Explanation(
        "FLOW-LOTTERY",
        "Networks drawn alike differ so much that one seed says little about another.",
        "β, the variance of ln ‖g‖² from end to end, is 1 or more: one deviation is a factor of e in ‖g‖².",
        "The variance between networks of the difference between the first and the last layer. For ReLU"
        " it is close to the sum of 5/n over the layers of width n.",
        "Make layers wider or the network shallower, normalise, or add skip connections; quote several "
        "seeds.",
    ),
    Explanation(
        "FLOW-HEAVY",
        "A few large ratios make up the factor, so that its sample mean is no estimate.",
        "The ratio ‖g_{l-1}‖²/‖g_l‖² has an infinite or very large variance.",
        "One ratio is more than a fifth of the sum of all, or batch norm runs over five values or "
        "fewer, where the variance does not exist.",
        "Read the rate, which is a mean of logarithms, and not the factor; or take a larger batch.",
    ),
    Explanation(
        "FLOW-SHALLOW",
        "Too few layers to leave out the readout and the first layers.",
        "The rate is measured over layers that do not yet behave like the middle of a deep network.",
        "Three layers at the output and those before the forward variance settles are left out where at"
        " least two steps remain.",
        "Read the rate as that of this network, or measure a deeper one of the same kind.",
    ),
    Explanation(
        "FLOW-UNPREDICTED",
        "No law is known for this network.",
        "The measurement is as good as any, but there is nothing to hold it against.",
        "The theory was asked for the factor of this specification and refused; its reason is in the "
        "message.",
        "Read the measured rate and interval; or drop the part that the message names.",
    ),
    Explanation(
        "FLOW-DEPARTS",
        "Measured gradients leave the law that holds for them.",
        "From the layer named on, ln ‖g‖² is not what the exact law of this network says.",
        "Distances from the output to every layer were compared by Student's t at a chance of one in "
        "1.7 million, with the numerical error of the law added.",
        "A law and a measurement of this package contradict each other: report it with the network and seed.",
    ),
    Explanation(
        "FLOW-WEIGHTS",
        "Gradients of weights do not show what the gradients of pre-activations do.",
        "A weight's gradient is a gradient times an input; where one shrinks and the other grows, the "
        "product stays, and a histogram of weight gradients looks healthy.",
        "The two spans, in decades between the same layers, differ by one or more.",
        "Watch gradients of pre-activations (hooks on the layers' outputs), not those of weights.",
    ),
    Explanation(
        "FLOW-EVALUATION",
        "A module is in evaluation mode.",
        "Batch normalisation and dropout compute something else in evaluation, with other gradients: "
        "another network than the one that is trained.",
        "Modules whose mode changes what they compute were asked for it; the first is named.",
        "Call model.train() before measuring, unless evaluation is what you want to know about.",
    ),
    Explanation(
        "FLOW-FROZEN",
        "Some parameters do not require gradients.",
        "In training no gradient would be kept for them; it passes through them all the same, and that "
        "is what was measured.",
        "The parameters of the model were counted; in the copy that is measured all of them require "
        "gradients.",
        "Nothing, if they are frozen on purpose.",
    ),
    Explanation(
        "FLOW-UNREACHED",
        "No gradient reaches a layer.",
        "Between this layer and the output something cuts the graph (detach, no_grad, a conversion to "
        "NumPy, an index), or its output is not used.",
        _HOOKS + " The hook of this one was never called.",
        "Look for what cuts the graph after the layer named; without a gradient it does not learn.",
    ),
    Explanation(
        "FLOW-UNUSED",
        "A layer has parameters and was never called.",
        "Its parameters have no gradient and do not learn, or its weights are used by a function that "
        "hooks do not see.",
        "Every module with parameters was hooked; this one was not called, nor any that contains it.",
        "Remove the layer, or call it as a module.",
    ),
    Explanation(
        "FLOW-INDEPENDENT",
        "The output does not depend on the input.",
        "The model computes the same for any input: a wrong variable, or a signal that is lost on the way.",
        "The model was run with its numbers in another order, floating ones changed as well, in float64"
        " where it can: the outputs are equal to the last bit.",
        "Follow the input through forward(); if it is used, the forward signal dies in depth.",
    ),
    Explanation(
        "FLOW-SHARED",
        "A module is called several times.",
        "Every call is a row of its own; the gradient of the weight is that of all calls together.",
        _HOOKS + " One name came up more than once.",
        "Nothing, if the module is shared on purpose.",
    ),
    Explanation(
        "FLOW-SAME",
        "Every seed gives the same weights.",
        "Intervals and spread speak of this one model under other cotangents, not of models drawn alike.",
        "The sum of squares of all parameters was the same for every seed.",
        "Pass a function build(seed) that draws the weights, to learn about the initialisation.",
    ),
    Explanation(
        "FLOW-FORMAT",
        "The model does not run in float64 and was measured in its own format.",
        "Norms below the least number of that format count as zero, and those beyond it as broken.",
        "The copy was converted to float64 and raised; it was run once more as it is.",
        "Let forward() take the type of its input instead of naming one.",
    ),
    Explanation(
        "FLOW-FAILED",
        "Some seeds could not be measured and are left out.",
        "The statistics are those of the other networks.",
        "A network raised, or its layers are not those of most others; the first reason is in the message.",
        "Make build(seed) give the same layers for every seed.",
    ),
    Explanation(
        "FLOW-MOVED",
        "The example input was moved to the device of the model.",
        "Model and input were on two devices, and the model would have raised.",
        "The device of the first parameter was compared with that of every tensor in the example.",
        "Nothing; or pass an example on the device of the model.",
    ),
    Explanation(
        "FLOW-LOSS",
        "The cotangent is that of the loss given, not an independent Gaussian one.",
        "The gradient that starts at the output depends on the forward pass, and exact laws do not hold"
        " for it.",
        "A loss was passed to the measurement; rates and spans do not depend on its scale.",
        "Leave the loss out to compare with the theory; keep it to learn which formats hold its gradient.",
    ),
)


def explain_flow(code: str) -> Explanation:
    """Return what a code of a gradient finding means; an unknown one is a `UsageError` with the closest."""
    return explain(code, FLOW_CODES)
