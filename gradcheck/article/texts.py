"""The article's claims as data: what is said, where, on which domain; nothing says whether it is true."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.errors import unknown_name


@dataclass(frozen=True)
class ClaimText:
    """What the article says: formula as printed, the reference beside it, the domain that it means.

    `citation` stands where nothing that can be computed decides: history, motives.
    """

    id: str
    section: str
    says: str
    printed: str
    reference: str
    domain: str
    formula: str
    citation: str = ""


CLAIMS: tuple[ClaimText, ...] = (
    ClaimText(
        "F01",
        "2",
        "the pre-activation of a neuron is z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
        "z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
        "z = Σ wᵢxᵢ + b",
        "N ≥ 2 inputs with a weight each, all numbers",
        "preactivation",
    ),
    ClaimText(
        "F02",
        "2",
        "the derivative of a neuron f(z) is σ'(z)·w1·x1 + … + σ'(z)·wN·xN",
        "df/dz = σ'(z) = Σ σ'(z)·wᵢ·xᵢ",
        "df/dz = σ'(z)",
        "N ≥ 1 inputs, all numbers, σ the sigmoid",
        "neuron",
    ),
    ClaimText(
        "F07", "3.1.1", "ReLU is g(z) = max(0, z)", "g = max(0, z)", "max(0, x)", "all numbers", "relu"
    ),
    ClaimText(
        "F07.derivative",
        "3.1.1",
        "the derivative of ReLU is 0 on the negative half-line",
        "g'(z) = 0",
        "the derivative of max(0, x)",
        "z < 0",
        "relu",
    ),
    ClaimText(
        "F08",
        "3.1.1",
        "the sigmoid is y = 1/(1 + e^−x)",
        "y = 1/(1 + e^−x)",
        "σ(x), evaluated without overflow",
        "all numbers",
        "sigmoid",
    ),
    ClaimText(
        "F08.limits",
        "3.1.1",
        "e^−∞ ≈ 0 and e^∞ ≈ ∞",
        "e^−∞ ≈ 0, e^∞ ≈ ∞",
        "the limits of exp",
        "numbers beyond ±1000",
        "sigmoid",
    ),
    ClaimText(
        "F08.derivative",
        "3.1.1",
        "the derivative of the sigmoid is continuous: σ' = σ(1 − σ)",
        "y(1 − y) with y = 1/(1 + e^−x)",
        "σ(x)·σ(−x)",
        "all numbers",
        "sigmoid",
    ),
    ClaimText(
        "F09",
        "3.1.1",
        "Leaky ReLU is y = max(αx, max(0, x))",
        "y = max(αx, max(0, x))",
        "x for x ≥ 0, αx for x < 0",
        "0 < α < 1, all x",
        "leaky_relu",
    ),
    ClaimText(
        "C04",
        "1",
        "clipping keeps gradients from exploding, and with ReLU it does not stop them from vanishing",
        "‖clip(g)‖ ≤ ‖g‖; where ReLU's slope is 0 the clipped gradient is 0",
        "clipping by norm and by value",
        "all gradients and thresholds; dead and live units",
        "clip_by_norm",
    ),
    ClaimText(
        "C06",
        "1",
        "gradient clipping was proposed by Hinton and others in 2015",
        "",
        "",
        "",
        "clip_by_norm",
        "history: Mikolov, Statistical Language Models Based on Neural Networks, PhD thesis, Brno, "
        "2012, clips by value; Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural "
        "networks, ICML 2013, clip by norm",
    ),
    ClaimText(
        "F06",
        "2",
        "a step of gradient descent goes along the negative gradient, as far as the gradient is large",
        "θ ← θ − ηg",
        "a step of SGD without momentum",
        "all numbers",
        "sgd",
    ),
    ClaimText(
        "F06.batches",
        "2",
        "mini-batches stand for all of the data: the mean of their gradients is the gradient",
        "the mean over the batches of the gradients of their mean losses",
        "the gradient of the mean loss over all samples",
        "a linear model, squared error; any number of samples and any size of a batch",
        "sgd",
    ),
    ClaimText(
        "F10",
        "3.1.2",
        "weight decay adds L_w = Σ_l ‖∂J/∂W^l‖₂² to the loss",
        "L_w = Σ_l ‖∂J/∂W^l‖₂²",
        "(λ/2) Σ ‖W^l‖²",
        "two layers with tanh, mean squared error, all weights and data",
        "gradient_norm_penalty",
    ),
    ClaimText(
        "F10.gradient",
        "3.1.2",
        "the gradient that this term adds decays the weights",
        "∂L_w/∂W^l",
        "λW^l",
        "two layers with tanh, mean squared error, all weights and data",
        "gradient_norm_penalty",
    ),
    ClaimText(
        "F11",
        "3.1.2",
        "the weight decay term of the loss is L_reg = λ Σ_l Σ_i Σ_j |∂w^l_ij / ∂w^(k)_ij|",
        "L_reg = λ Σ_l Σ_i Σ_j |∂w^l_ij / ∂w^(k)_ij|",
        "(λ/2) Σ w²",
        "all weights, λ > 0",
        "l2_penalty",
    ),
    ClaimText(
        "F11.gradient",
        "3.1.2",
        "the gradient of L_reg decays the weights",
        "∂L_reg/∂w",
        "λw",
        "all weights, λ > 0",
        "l2_penalty",
    ),
    ClaimText(
        "F11.decoupled",
        "3.1.2",
        "weight decay is a term of the loss: its gradient λw decays the weights by the factor 1 − ηλ",
        "a step along g + λw",
        "a step along g, and (1 − ηλ)w",
        "SGD and Adam, all weights, gradients and states",
        "decoupled_decay",
    ),
    ClaimText(
        "C10",
        "3.1.2",
        "weight decay keeps the norm of the gradient below a threshold",
        "‖∂J/∂W‖ ≤ c",
        "the gradient of a linear model's squared error after three steps with weight decay",
        "any threshold, any decay up to 1, any weights and data",
        "l2_penalty",
    ),
    ClaimText(
        "F12",
        "3.1.3",
        "batch normalisation is γ (x − μ_B)/√(σ²_B + ε) + β",
        "γ (x − μ_B)/√(σ²_B + ε) + β",
        "batch normalisation in training",
        "all batches, ε > 0",
        "batch_norm",
    ),
    ClaimText(
        "C11",
        "3.1.3",
        "batch normalisation gives the features of every sample the same distribution",
        "mean and variance of what comes out",
        "mean β and variance γ²σ²/(σ² + ε), alike for all",
        "all batches; over the batch for one feature, and over the features for one sample",
        "batch_norm",
    ),
    ClaimText(
        "C11.one",
        "3.1.3",
        "a batch of any size goes through: what comes out tells its samples apart, and a gradient goes back",
        "Σ(y − β)² > 0, Σ(∂x)² > 0",
        "the result and the gradient of batch normalisation",
        "one feature, samples that differ, the cotangent x, ε > 0",
        "batch_norm",
    ),
    ClaimText(
        "F13",
        "3.2.1",
        "clipping is G = clip(G, −c, c)",
        "clip(G, −c, c)",
        "clipping by value",
        "all gradients, c > 0",
        "clip_by_value",
    ),
    ClaimText(
        "F13.above",
        "3.2.1",
        "a gradient that is greater than a threshold is cut to the threshold",
        "min(G, c)",
        "clipping by value",
        "all gradients, c > 0",
        "clip_by_value",
    ),
    ClaimText(
        "F14",
        "3.2.2",
        "the moments are m = β₁m + (1 − β₁)G and v = β₂v + (1 − β₂)G²",
        "m = β₁m + (1 − β₁)G, v = β₂v + (1 − β₂)G²",
        "the moments of Adam",
        "all gradients and states, 0 ≤ β < 1",
        "adam",
    ),
    ClaimText(
        "F15",
        "3.2.2",
        "the step of Adam is θ − η m/(√(v/ρ) + ε)",
        "θ − η m/(√(v/ρ) + ε)",
        "θ − η m̂/(√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ)",
        "all gradients and states, β₁ = 0.9, β₂ = 0.999, 0 < ρ ≤ 1",
        "adam",
    ),
    ClaimText(
        "F15.first",
        "3.2.2",
        "the printed step, ρ = 1, has at first the length η, as Adam's has",
        "|θ₁ − θ₀| / η",
        "1",
        "the first step, ε = 0, any gradient but 0, any β₁ and β₂ below 1",
        "adam",
    ),
    ClaimText(
        "F15.substitution",
        "3.2.2",
        "with ρ = 1 − β₂ᵗ, and η/(1 − β₁ᵗ) for η, the printed step is Adam's",
        "θ − η/(1 − β₁ᵗ) · m/(√(v/(1 − β₂ᵗ)) + ε)",
        "θ − η m̂/(√v̂ + ε)",
        "all gradients, states and steps t",
        "adam",
    ),
    ClaimText(
        "F16",
        "3.2.2",
        "Adam takes up RMSProp: without momentum its step is that of RMSProp",
        "a step of Adam",
        "a step of RMSProp, α = β₂",
        "all gradients and states; β₁ = 0 or not; η and ε as they are, or times √(1 − β₂ᵗ)",
        "adam",
    ),
    ClaimText(
        "F16.adagrad",
        "3.2.2",
        "Adam takes up AdaGrad: as β₂ tends to 1 its step tends to that of AdaGrad",
        "a step of Adam, β₁ = 0, rate η/√t",
        "AdaGrad's, up to the factor β₂^±(t−1)/2, which tends to 1",
        "all gradients but 0, up to five steps, ε = 0",
        "adam",
    ),
    ClaimText(
        "C13",
        "3.2.2",
        "Adam's momentum damps oscillation",
        "sign changes on the way to the minimum, β₁ = 0.9",
        "those with β₁ = 0",
        "quadratic functions of two variables, condition number 1 to 100, 40 steps in float64",
        "adam",
    ),
    ClaimText(
        "C14",
        "3.2.2",
        "Adam can keep gradients from vanishing: its step does not shrink with the gradient",
        "half of Adam's step without ε",
        "Adam's step",
        "up to three gradients of any common size, ε from 1e-12 to 1e-4",
        "adam",
    ),
    ClaimText(
        "C14.formats",
        "3.2.2",
        "so it does in the formats that networks are trained in: the first step is η, within a factor of two",
        "Adam's first step, computed in the format",
        "η/2 to 2η",
        "float64, float32, float16, bfloat16; ε = 0 and 1e-8; β₂ = 0.999",
        "adam",
    ),
    ClaimText(
        "C15",
        "3.2.2",
        "Adam adapts the learning rate and so performs well",
        "the distance to the minimum after 120 steps, rate η/√t",
        "half of the distance at the start",
        "quadratic functions, and the convex problem of Reddi, Kale & Kumar 2018, theorem 1; in float64",
        "adam",
    ),
)


def get_text(id: str) -> ClaimText:
    """Return the article's claim called `id`; an unknown one is a `UsageError`."""
    for text in CLAIMS:
        if text.id == id:
            return text
    raise unknown_name("claim", id, (text.id for text in CLAIMS))
