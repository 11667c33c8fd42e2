"""How torch spells penalties on weights."""

from __future__ import annotations

from gradcheck.subjects.torch_calls import Call

# The inner gradient records itself, also where nothing else is recorded; the outer one is double backward.
_NETWORK = (
    "lambda w1, w2, x=x, y=y: torch.nn.functional.mse_loss("
    "torch.nn.functional.linear(torch.tanh(torch.nn.functional.linear(x, w1)), w2), y)"
)
_GRADIENTS = f"torch.func.grad({_NETWORK}, argnums=(0, 1))(w1, w2)"
_JACOBIAN = "torch.func.jacrev(lambda v: v.clone())(w).reshape(w.numel(), w.numel())"

CALLS: dict[str, Call] = {
    "l2_penalty": Call("0.5 * decay * w.square().sum()"),
    "l1_penalty": Call("decay * w.abs().sum()"),
    "decoupled_decay": Call("w.mul(1 - rate * decay)"),
    "gradient_norm_penalty": Call(f"sum(g.square().sum() for g in {_GRADIENTS})"),
    # The Jacobian is taken as the formula says, and turns out to be the unit matrix.
    "kronecker_penalty": Call(f"decay * {_JACOBIAN}.diagonal().abs().sum()"),
}
