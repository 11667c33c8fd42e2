"""How torch spells softmax and the losses."""

from __future__ import annotations

from gradcheck.subjects.torch_calls import Call, F

_CLASSES = "weight=weight, ignore_index=ignore_index, "
_SMOOTH = "label_smoothing=label_smoothing, reduction=reduction"

CALLS: dict[str, Call] = {
    "softmax": Call("torch.softmax(x, dim=axis)", "torch.nn.Softmax(dim=axis)(x)"),
    "log_softmax": Call("torch.log_softmax(x, dim=axis)", "torch.nn.LogSoftmax(dim=axis)(x)"),
    "logsumexp": Call("torch.logsumexp(x, dim=axis)"),
    "mse_loss": Call(
        f"{F}.mse_loss(x, target, reduction=reduction)", "torch.nn.MSELoss(reduction=reduction)(x, target)"
    ),
    "l1_loss": Call(
        f"{F}.l1_loss(x, target, reduction=reduction)", "torch.nn.L1Loss(reduction=reduction)(x, target)"
    ),
    "huber_loss": Call(
        f"{F}.huber_loss(x, target, reduction=reduction, delta=delta)",
        "torch.nn.HuberLoss(reduction=reduction, delta=delta)(x, target)",
    ),
    "smooth_l1_loss": Call(
        f"{F}.smooth_l1_loss(x, target, reduction=reduction, beta=beta)",
        "torch.nn.SmoothL1Loss(reduction=reduction, beta=beta)(x, target)",
    ),
    "cross_entropy": Call(
        f"{F}.cross_entropy(x, target, {_CLASSES}{_SMOOTH})",
        f"torch.nn.CrossEntropyLoss({_CLASSES}{_SMOOTH})(x, target)",
    ),
    "cross_entropy_probabilities": Call(
        f"{F}.cross_entropy(x, target, weight=weight, {_SMOOTH})",
        f"torch.nn.CrossEntropyLoss(weight=weight, {_SMOOTH})(x, target)",
    ),
    "nll_loss": Call(
        f"{F}.nll_loss(x, target, {_CLASSES}reduction=reduction)",
        f"torch.nn.NLLLoss({_CLASSES}reduction=reduction)(x, target)",
    ),
    "binary_cross_entropy": Call(
        f"{F}.binary_cross_entropy(x, target, weight=weight, reduction=reduction)",
        "torch.nn.BCELoss(weight=weight, reduction=reduction)(x, target)",
        # torch replaces every logarithm below -100.
        fixed={"floor": -100.0},
    ),
    "binary_cross_entropy_with_logits": Call(
        f"{F}.binary_cross_entropy_with_logits("
        "x, target, weight=weight, pos_weight=pos_weight, reduction=reduction)",
        "torch.nn.BCEWithLogitsLoss(weight=weight, pos_weight=pos_weight, reduction=reduction)(x, target)",
    ),
}
