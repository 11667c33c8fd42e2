"""The codes of findings: what each means, how the verdict was reached, what to do about it.

The registry is closed. A code is part of a finding's id, so a code is never given a second meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradcheck.errors import UsageError, unknown_name
from gradcheck.records import Verdict


@dataclass(frozen=True)
class Explanation:
    """What `gradcheck explain CODE` prints."""

    code: str
    summary: str
    meaning: str
    reached: str
    action: str

    def __str__(self) -> str:
        return (
            f"{self.code}: {self.summary}\n\n"
            f"What it means. {self.meaning}\n\n"
            f"How the verdict was reached. {self.reached}\n\n"
            f"What to do. {self.action}\n"
        )


_BOUND = (
    "The reference was evaluated with a running-error bound that holds for every legal order of its "
    "operations, fused or not, in the declared formats, and over all listed texts of the formula. The truth "
    "itself comes from ball arithmetic, and its radius is added to the bound. The error is beyond the bound "
    "of every text, so no rounding explains it."
)
_UNSTABLE = (
    "The error is beyond the bound of every stable and accepted text of the formula, but within that of a "
    "listed unstable text, which the finding names. No tolerance was involved."
)
_REPRODUCE = (
    "Run the reproduction of the finding, which does not need this package, and compare with `expected`."
)
_REWRITE = (
    "Compute by the reference text (`gradcheck list formulas` names its source). If the loss is accepted, "
    "enter the finding in the known list with the reason."
)

_DIFFERENCES = (
    "Directional derivatives of the function itself were taken on a ladder of steps, each with an estimate "
    "of its error; entries that disagree were looked at one by one with more steps, from both sides, and "
    "with the noise of both measured. At a kink every slope between the two sides is accepted. No tolerance "
    "was chosen: the error is beyond ten of those estimates."
)
_ROOM = (
    "Allowed is what a rounding error in weights and gradients makes of the run, and some roundings of the "
    "weight."
)
_TWO_RUNS = "Run the reproduction of the finding, which shows both runs where there are two."
_SHOWN = "Run the reproduction of the finding, and compare with the number that it should give."

CODES: tuple[Explanation, ...] = (
    Explanation(
        "VALUE-WRONG",
        "The value differs from the formula by more than any rounding can explain.",
        "At the input shown, the subject does not compute this formula: a wrong constant, branch, sign or "
        "parameter, an overflow where the true value is finite, or a NaN or infinity out of place.",
        _BOUND,
        _REPRODUCE
        + " Look at where the inputs stand: all of them, beyond one threshold, at one point, or in "
        "the last lanes of a vector.",
    ),
    Explanation(
        "VALUE-UNSTABLE",
        "The value loses digits that a stable evaluation keeps.",
        "The subject computes this formula, but by a text that cancels, overflows or underflows on the way.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "DERIVATIVE-WRONG",
        "The vector-Jacobian product differs from the derivative by more than any rounding can explain.",
        "The backward pass does not differentiate the forward pass. Training runs on, in a wrong direction.",
        _BOUND
        + " The derivative is the dual-number derivative of the value's own text, enclosed in balls; at a "
        "kink every slope between the two one-sided ones is accepted, unless the formula declares its own.",
        _REPRODUCE + " Cotangents are random and signed: a factor that is missing shows as a constant ratio.",
    ),
    Explanation(
        "DERIVATIVE-UNSTABLE",
        "The vector-Jacobian product loses digits that a stable evaluation keeps.",
        "Often the derivative is rebuilt from the rounded output: y(1 - y) is 0 where the sigmoid rounds "
        "to 1, while the true slope is a normal number.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "SECOND-WRONG",
        "The double backward pass differs from the second derivative by more than any rounding can explain.",
        "Hessian-vector products, gradient penalties and meta-learning get wrong gradients.",
        _BOUND + " The second derivative is that of the reference, proven by dual numbers over balls.",
        _REPRODUCE + " Check that the backward pass is itself differentiable and saves no detached value.",
    ),
    Explanation(
        "SECOND-UNSTABLE",
        "The double backward pass loses digits that a stable evaluation keeps.",
        "The second derivative is right as a formula and cancels, overflows or underflows as it is computed.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "SPECIAL-WRONG",
        "NaN, infinity or the sign of zero comes out other than the formula allows.",
        "At 0, -0, an infinity, NaN, the largest or the least number the subject gives none of the answers "
        "that the mathematical limit and the textbook formula in IEEE arithmetic allow.",
        "The answer is compared with the formula's table of accepted answers, exactly, never by a tolerance.",
        _REPRODUCE + " The report's table shows the limit, the textbook's answer and the subject's.",
    ),
    Explanation(
        "SPECIAL-UNSTABLE",
        "An answer at a special number is that of a form which is known to lose it.",
        "The answer at 0, -0, an infinity, NaN, the largest or the least number is not an accepted "
        "one, but a listed unstable text gives it: an overflow to infinity where the value is finite, say.",
        "The answer is compared with the formula's table of accepted answers and with the unstable texts, "
        "exactly where it is a zero, an infinity or NaN.",
        _REPRODUCE + " The text that explains it is named.",
    ),
    Explanation(
        "LAYOUT-WRONG",
        "The answer is wrong for one size or memory layout of the input.",
        "A scalar, strided, offset or odd-sized input goes another way through the code, such as the tail of "
        "a vector loop, and that way is wrong.",
        _BOUND
        + " The same values were passed as scalars, contiguous, strided and offset, in sizes around the "
        "width of vector registers.",
        _REPRODUCE
        + " Compare with the contiguous input of the same values; the case shown says size and layout.",
    ),
    Explanation(
        "LAYOUT-UNSTABLE",
        "The answer loses digits for one size or memory layout of the input.",
        "One way through the code, chosen by size or layout, uses a less stable text than the others.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "DROPOUT-WRONG",
        "Dropout as it is called breaks one of its laws.",
        "The value or the gradient is not that of the mask which the value shows; or evaluation mode or "
        "p = 0 changes something, or p = 1 leaves something; or the mask is not drawn element by element "
        "with probability 1 - p.",
        "The mask was read off one seeded call; value and gradient were held to the bounds of the formula "
        "with that mask, identities were compared bit by bit. Shares and agreements of masks were put to "
        "exact binomial tests, each of which a right implementation fails with a probability of 1e-14.",
        "Look for a mask that is drawn again in the backward pass, a missing or doubled 1/(1 - p), p taken "
        "for the probability of keeping, a mask shared along an axis, a generator that is seeded once.",
    ),
    Explanation(
        "DROPOUT-UNSTABLE",
        "Dropout as it is called loses digits that a stable evaluation keeps.",
        "Value or gradient take a less stable way than the reference text.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "MODULE-WRONG",
        "The module form differs from the formula by more than any rounding can explain.",
        "The class passes other arguments than the function does, or initialises its parameters otherwise.",
        _BOUND,
        _REPRODUCE
        + " Compare the module with the function form: the function may pass while the module fails.",
    ),
    Explanation(
        "MODULE-UNSTABLE",
        "The module form loses digits that a stable evaluation keeps.",
        "The class takes a less stable way than the reference text.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "MOMENTS-WRONG",
        "Initial weights are not drawn from the law that the rule states.",
        "Their support, mean, variance, fourth moment or distribution is another one: fan_in and fan_out "
        "exchanged, a gain forgotten, a deviation taken for a bound, a square root left out. Signals and "
        "gradients then grow or shrink from layer to layer. Orthogonal weights may also fail to be "
        "orthonormal, or to be uniformly distributed among those that are.",
        "Every statistic may stray as far as that of a right sampler strays with a stated probability, by "
        "inequalities that hold for every size of the sample, and as far as rounding moves it. The "
        "probability of one false alarm in a whole run is at most one in a million.",
        _REPRODUCE + " It prints the least and largest number, mean, variance and fourth moment of one draw.",
    ),
    *(
        explanation
        for code, form in (
            ("LOOP", "takes the arrays of a list one by one"),
            ("FOREACH", "takes many arrays at once"),
        )
        for explanation in (
            Explanation(
                f"{code}-WRONG",
                f"The in-place form that {form} differs from the formula by more than any rounding explains.",
                f"One utility comes in several forms, and the one that {form} does not compute the formula.",
                _BOUND,
                _REPRODUCE + " Compare with the other forms: an array of one size or type may be skipped.",
            ),
            Explanation(
                f"{code}-UNSTABLE",
                f"The in-place form that {form} loses digits that a stable evaluation keeps.",
                "It computes the formula, but by a text that cancels, overflows or underflows on the way.",
                _UNSTABLE,
                _REWRITE,
            ),
        )
    ),
    *(
        explanation
        for code, what in (
            ("TRAJECTORY", "step of a run"),
            ("MACHINE", "step of an optimizer that was saved, restored or changed"),
        )
        for explanation in (
            Explanation(
                f"{code}-WRONG",
                f"A {what} differs from the formula by more than any rounding explains.",
                "The step was judged from the weight and the state that the optimizer itself had before it.",
                _BOUND,
                _REPRODUCE,
            ),
            Explanation(
                f"{code}-UNSTABLE",
                f"A {what} loses digits that a stable evaluation keeps.",
                "It computes the formula, but by a text that cancels, overflows or underflows on the way.",
                _UNSTABLE,
                _REWRITE,
            ),
        )
    ),
    Explanation(
        "STATE-CHANGED",
        "A weight or its state changed where nothing should touch it.",
        "Saving and restoring, or a step without a gradient, must leave every bit as it was.",
        "Weights, state arrays and the number of steps were compared bit for bit.",
        _REPRODUCE,
    ),
    Explanation(
        "SHAPE-WRONG",
        "The result has another shape than the formula gives.",
        "An axis was dropped, added or broadcast. Every number may be right, and what follows is wrong.",
        "The shape of the result was compared with that of the reference; nothing was broadcast to fit.",
        _REPRODUCE + " Empty and zero-dimensional inputs are the usual causes.",
    ),
    Explanation(
        "FORMAT-WRONG",
        "The result is stored in another format than the input.",
        "Something widened or narrowed the numbers on the way; memory and precision are not what they seem.",
        "The type of the result was compared with the declared one. The values were compared all the same.",
        "Cast where the formula's constants enter, and return what the caller passed in.",
    ),
    Explanation(
        "INPUT-MUTATED",
        "The subject wrote into its input.",
        "A caller who uses the array again computes with other numbers than those that were passed.",
        "The bytes of every input were compared before and after the call; read-only ones were passed too.",
        "Work on a copy, or offer the in-place form under a name of its own.",
    ),
    Explanation(
        "SUBJECT-RAISED",
        "The subject raised an exception on a valid input.",
        "The input lies in the declared domain and the format is supported, and no answer came.",
        "The exception was caught around the call; the message holds its text. The other cases were run.",
        "Run the reproduction for the traceback. If the input is not promised to work, declare the domain.",
    ),
    Explanation(
        "SUBJECT-CRASHED",
        "The subject ended the process that called it.",
        "A segmentation fault, an abort or an exit within a call takes everything in the process with it: a "
        "training run, its unsaved weights, and every other test.",
        "The worker that ran the check died without a record. The check was run again in a process of its "
        "own, every call written down before it was made; the process ended again, within the call shown.",
        _REPRODUCE + " Memory that is read or written out of bounds may not crash every time.",
    ),
    Explanation(
        "GRADIENT-MISSING",
        "An input that must have a gradient got none.",
        "The graph is cut between input and output. An optimizer skips such a parameter without a word.",
        "The backward pass gave no array for an input whose derivative is not zero everywhere.",
        "Look for a detached value, a conversion to another library, or an integer cast on the way.",
    ),
    Explanation(
        "FLUSHED-SUBNORMALS",
        "Subnormal numbers were replaced by zero.",
        "The subject, or a flag that it set, flushes numbers below the least normal one to zero, in or out.",
        "A result is zero where the truth and every legal evaluation are subnormal numbers.",
        "Declare flush-to-zero in the arithmetic model if it is intended; otherwise find who sets the flag.",
    ),
    Explanation(
        "LAW-WRONG",
        "A law of the formula is broken by more than any rounding can explain.",
        "Two results that belong together do not fit: a symmetry, an adjoint, a sum that must vanish, or "
        "what one formula becomes when a number of it is zero. The finding names the law.",
        "Both sides were computed by the subject, and their difference was held to the interval of the "
        "differences of legal evaluations of the reference. For the reference itself both sides were "
        "enclosed by balls, and do not meet.",
        _REPRODUCE + " The law in words is in the finding; its two sides are the numbers got and expected.",
    ),
    Explanation(
        "LAW-UNSTABLE",
        "A law of the formula is broken by an evaluation that loses digits.",
        "A listed unstable text, which the finding names, explains by how much the two sides differ.",
        _UNSTABLE,
        _REWRITE,
    ),
    Explanation(
        "OUTPUT-REUSED",
        "An output changes after it was returned.",
        "The memory of a result is written to by a later call. Whoever kept it, a graph for one, holds other "
        "numbers than it was given.",
        "The outputs of one call were kept, the function was called again with other inputs, and the kept "
        "ones were compared with a copy.",
        _REPRODUCE + " Return fresh memory, or say that the result is valid until the next call.",
    ),
    Explanation(
        "JACOBIAN-INCONSISTENT",
        "Reverse mode and differences of the function disagree at the example.",
        "The backward pass does not differentiate the forward pass. Training runs on, in a wrong direction.",
        _DIFFERENCES,
        _SHOWN + " If the function is not differentiable there, pass an example where it is.",
    ),
    Explanation(
        "VALUES-INCONSISTENT",
        "Reverse mode and differences of the function disagree at some values of the inputs.",
        "The gradient is right at the example and wrong elsewhere: beyond a threshold, where something "
        "saturates, at a tie, for tiny or huge numbers.",
        _DIFFERENCES,
        _SHOWN + " The family of values is in the message; `domain` says what values an input can have.",
    ),
    Explanation(
        "SIZES-INCONSISTENT",
        "Reverse mode and differences of the function disagree at some sizes of the inputs.",
        "The gradient is right for the example's shape and wrong for another: one row, square matrices, the "
        "elements after a multiple of the vector width.",
        _DIFFERENCES,
        _SHOWN + " The sizes are in the message.",
    ),
    Explanation(
        "SECOND-ORDER-INCONSISTENT",
        "The double backward pass disagrees with differences of the first gradient.",
        "Hessian-vector products, gradient penalties and meta-learning get wrong gradients.",
        _DIFFERENCES + " Here the function is the gradient along a fixed cotangent.",
        _SHOWN + " Check that the backward pass is itself differentiable and saves no detached value; if it "
        "is not meant to be differentiated, mark it `once_differentiable`.",
    ),
    Explanation(
        "FORMATS-INCONSISTENT",
        "A narrow format gives other numbers than float64, by more than its rounding can explain.",
        "A constant, a branch or a sum is wrong in one format, or something overflows there on the way.",
        "The same numbers went in in both formats. Allowed is what the outputs move by when the inputs do by "
        "a rounding error, and some dozens of roundings of the largest output.",
        _SHOWN,
    ),
    Explanation(
        "COTANGENTS-INCONSISTENT",
        "The backward pass is not linear in the cotangent, or depends on how it is stored.",
        "The chain rule hands any cotangent down: zero, expanded, strided, the sum of two. One that is "
        "ignored, averaged or assumed contiguous gives a wrong gradient as soon as a loss is added behind.",
        "Gradients of sums, multiples and other layouts of a cotangent were compared with what linearity "
        "gives, to nine digits.",
        _SHOWN,
    ),
    Explanation(
        "SUBSETS-INCONSISTENT",
        "The gradient of an input depends on which other inputs require one.",
        "With some parameters frozen the others get wrong gradients, none, or an exception.",
        "Each input alone, and all but each, required a gradient; the results were compared with those where "
        "all do.",
        _SHOWN + " Look at the use of `needs_input_grad`.",
    ),
    Explanation(
        "LAYOUTS-INCONSISTENT",
        "The answer depends on how an input lies in memory.",
        "A transposed, strided, offset, expanded or channels-last tensor with the same numbers gives others.",
        "Outputs and gradients were compared with those of contiguous inputs, to nine digits.",
        _SHOWN + " Look for raw pointers, `view`, and strides that are assumed.",
    ),
    Explanation(
        "FORWARD-INCONSISTENT",
        "Forward mode and reverse mode are not adjoint.",
        "One of the two differentiates something else: v·(J d) and (v·J)·d are the same number.",
        "A tangent was pushed forward, a cotangent pulled back, and the two products compared.",
        _SHOWN,
    ),
    Explanation(
        "BATCHED-INCONSISTENT",
        "Gradients of a batch of cotangents differ from those one by one.",
        "A rule for vmap is wrong; Jacobians and per-sample gradients computed with it are, too.",
        "The same cotangents were pulled back in one batch and one after the other.",
        _SHOWN,
    ),
    Explanation(
        "STATE-INCONSISTENT",
        "The same call gives different answers.",
        "The function depends on what was called before, or draws random numbers: it is no function of its "
        "inputs, and no gradient can be checked against it.",
        "The call was repeated, alone, after another call, and with another call between its two passes.",
        "Fix the seed, set the module to evaluation mode, or remove what is kept from call to call.",
    ),
    Explanation(
        "REFERENCE-INCONSISTENT",
        "The values differ from those of the reference that was named.",
        "The function may be consistent with its own gradient and still compute something else.",
        "Both got the same numbers. Allowed is what the reference moves by when its inputs do by a rounding "
        "error, and some dozens of roundings.",
        _SHOWN + " Check the options: both must mean the same by them.",
    ),
    Explanation(
        "UPDATE-INCONSISTENT",
        "A step of an optimizer does not repeat itself, moves nothing, or changes the process.",
        "The same weights and gradients end elsewhere: on a second run, by step(closure), after zero_grad(), "
        "or while another instance of the same optimizer works in turn. Or seeds, modes or flags are not "
        "left alone.",
        "The same run was played twice, and with each of these in between; all bits have to be the same. The "
        "process was looked at before and after each step.",
        _TWO_RUNS + " State that belongs to the class, or a default that is changed in place, is shared.",
    ),
    Explanation(
        "GROUPS-INCONSISTENT",
        "A parameter group does not go by its own options.",
        "Learning rate, decay or other options of a group have no effect, come from another group, are read "
        "only once, or a group that joins later is treated as if it had been there before.",
        "Weights in groups of their own were compared with the same weights in an optimizer of their own "
        "with these options, and runs with other options with runs without them.",
        _TWO_RUNS + " Read the options from the group in every step, not from the constructor's arguments.",
    ),
    Explanation(
        "RESUMED-INCONSISTENT",
        "A run that was saved and restored goes on otherwise than one that was not.",
        "Part of the state is not in state_dict(), or does not come back as it was: a checkpoint changes the "
        "training.",
        "In the middle of a run the state was loaded into a fresh optimizer on copies of the weights; all "
        "bits afterwards have to be those of the run without.",
        _TWO_RUNS
        + " Keep everything in self.state[p] or in the groups, and let load_state_dict keep its type.",
    ),
    Explanation(
        "ALONE-INCONSISTENT",
        "A weight goes another way with others than alone.",
        "The step of one weight depends on the others, on their order or on their gradients: state is "
        "shared, a counter runs once per tensor, or a norm is taken over all of them.",
        "Every weight was stepped alone, and all of them in the opposite order. " + _ROOM,
        _TWO_RUNS + " If the optimizer couples its weights on purpose, leave this check out by `checks=`.",
    ),
    Explanation(
        "FORMS-INCONSISTENT",
        "The programs for one update disagree: for-loop, foreach, fused.",
        "Which of them runs is chosen by an option or a device, and the training depends on it.",
        "Every program that the groups offer was chosen in turn. " + _ROOM,
        _TWO_RUNS,
    ),
    Explanation(
        "LONG-RUN-INCONSISTENT",
        "After many steps the optimizer no longer follows the reference.",
        "The first steps are right, later ones are not: a counter saturates, a correction ends too early, or "
        "an error builds up in the state.",
        "Hundreds of steps were compared with the reference in float64, each from the optimizer's own "
        "weight. Allowed is what other orders of the operations, and gradients moved by a rounding error, "
        "differ by.",
        "Run the optimizer for as many steps as the message says, beside the reference.",
    ),
    Explanation(
        "PROOF-WRONG",
        "A hand-written derivative of the catalogue is not the derivative of its value.",
        "A reference of this package is wrong: no verdict that rests on this derivative can be trusted.",
        "The text and the dual-number derivative of the value's text were both enclosed by balls, and the "
        "two enclosures do not meet. That is a disproof, not an estimate.",
        "Correct the text, or report it with the finding's input.",
    ),
    Explanation(
        "WITNESS-WRONG",
        "Finite differences or the complex step contradict the derivative.",
        "Two independent ways to the derivative disagree by more than their errors together.",
        "The difference was measured over a ladder of steps and exceeds the estimated truncation error plus "
        "the rounding error of the value; the complex step has no truncation error.",
        "If the proof of this formula passed, the witness is at fault: a kink within the step, or an error "
        "estimate that is too small. Report it with the finding's input.",
    ),
)

_PREFIX = {
    "value": "VALUE",
    "derivative": "DERIVATIVE",
    "second": "SECOND",
    "layout": "LAYOUT",
    "module": "MODULE",
    "loop": "LOOP",
    "foreach": "FOREACH",
    "special": "SPECIAL",
    "trajectory": "TRAJECTORY",
    "machine": "MACHINE",
    "dropout": "DROPOUT",
    "moments": "MOMENTS",
    "law": "LAW",
    "proof": "PROOF",
    "witness": "WITNESS",
}
# Checks of a black box: what they find has no bound, and is inconsistent.
# In the order in which they run: what costs little first, then the most telling.
BLACK_BOX = {
    "state": ("STATE", "inputs, earlier outputs and the process are left alone, and a call repeats itself"),
    "jacobian": ("JACOBIAN", "every entry at the example, reverse mode against differences"),
    "cotangents": ("COTANGENTS", "linear in the cotangent, however that lies in memory, and accumulated"),
    "subsets": ("SUBSETS", "the same gradients where only some inputs require one"),
    "layouts": ("LAYOUTS", "the same answers for inputs that lie otherwise in memory"),
    "batched": ("BATCHED", "gradients of a batch of cotangents are those one by one"),
    "forward": ("FORWARD", "forward mode is the adjoint of reverse mode"),
    "formats": ("FORMATS", "float32, bfloat16 and float16 against float64"),
    "reference": ("REFERENCE", "the values, and more, of a formula or a function that is named"),
    "values": ("VALUES", "the Jacobian at large, tiny, saturated and tied values, and where code branches"),
    "sizes": ("SIZES", "the Jacobian at other sizes of every axis that may vary"),
    "second-order": ("SECOND-ORDER", "double backward against differences of the gradient"),
}
# Checks of somebody's optimizer. The first two need a reference, and are judged by its bounds.
OPTIMIZER_CHECKS = {
    "trajectory": ("TRAJECTORY", "every step of runs over many kinds of gradients, against the reference"),
    "update": ("UPDATE", "a run repeats itself, moves its weights in place, and touches nothing else"),
    "groups": ("GROUPS", "every parameter group goes by its own options, also later ones and new rates"),
    "resumed": ("RESUMED", "a run that was saved and restored goes on as if it had not been"),
    "alone": ("ALONE", "a weight goes alone as it does with others, in any order"),
    "layouts": ("LAYOUTS", "the same steps for weights that lie otherwise in memory"),
    "forms": ("FORMS", "for-loop, foreach and fused give the same steps, where they are offered"),
    "machine": ("MACHINE", "groups, missing gradients, rates, saving, layouts, against the reference"),
    "long-run": ("LONG-RUN", "hundreds of steps, against the reference"),
    "formats": ("FORMATS", "float32 and bfloat16 weights against float64"),
}
_EXACT_ONLY = ("MOMENTS", "PROOF", "WITNESS")
# The most fundamental breach names the finding: after an exception there is no shape, after a wrong shape
# the numbers mean little.
_BY_BREACH = (
    ("crashed", "SUBJECT-CRASHED"),
    ("raised", "SUBJECT-RAISED"),
    ("missing", "GRADIENT-MISSING"),
    ("mutation", "INPUT-MUTATED"),
    ("state", "STATE-CHANGED"),
    ("reused", "OUTPUT-REUSED"),
    ("shape", "SHAPE-WRONG"),
    ("format", "FORMAT-WRONG"),
)
_SEMANTIC = ("nan", "infinity", "zero sign")


def explain(code: str, among: Sequence[Explanation] = CODES) -> Explanation:
    """Return what `code` means; one that is not `among` the known is a `UsageError` with the closest ones."""
    wanted = code.strip().upper()
    for explanation in among:
        if explanation.code == wanted:
            return explanation
    raise unknown_name("code", code, (explanation.code for explanation in among))


def code_for(check: str, verdict: Verdict, breaches: Mapping[str, int]) -> str:
    """Return the code of the finding that `verdict` and the counted `breaches` of a check make.

    A breach of NaN, infinity or the sign of zero takes the code of its check: a wrong NaN of a value is a
    wrong value. Raises `UsageError` for a verdict that is no finding and for an unknown check.
    """
    if not verdict.is_finding:
        raise UsageError(f"verdict={verdict.value!r} is not a finding and has no code")
    known = {**OPTIMIZER_CHECKS, **BLACK_BOX}
    if check not in _PREFIX and check not in known:
        raise unknown_name("check", check, (*_PREFIX, *known))
    present = {kind for kind, count in breaches.items() if count}
    for kind, code in _BY_BREACH:
        if kind in present:
            return code
    if check not in _PREFIX:
        return f"{known[check][0]}-INCONSISTENT"
    if "flushed" in present and not present.intersection(_SEMANTIC):
        return "FLUSHED-SUBNORMALS"
    unstable = verdict is Verdict.UNSTABLE and _PREFIX[check] not in _EXACT_ONLY
    return f"{_PREFIX[check]}-{'UNSTABLE' if unstable else 'WRONG'}"
