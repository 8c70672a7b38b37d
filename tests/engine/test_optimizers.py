"""Which parameter goes to which optimizer."""

from engine.optimizers import build_optimizers
from tests.model.networks import tiny_model


def test_transformer_to_adamw_everything_else_to_sgd() -> None:
    model = tiny_model(contrast_residual=True)
    optimizers = build_optimizers(
        model, base_lr=0.1, momentum=0.9, weight_decay=1e-4, transformer_lr=1e-4, transformer_weight_decay=0.02
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    sgd = {names[id(p)] for group in optimizers.sgd.param_groups for p in group["params"]}
    decayed, undecayed = ({names[id(p)] for p in group["params"]} for group in optimizers.adamw.param_groups)
    assert sgd | decayed | undecayed == {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in sgd} == {
        "adjust_query", "adjust_support", "merge_query", "merge_support", "classifier", "contrast_scale"
    }  # fmt: skip
    assert {name.split(".")[0] for name in decayed | undecayed} == {"support_prototypes", "query_transformer"}
    assert all(name.endswith("bias") for name in undecayed)
    assert not any(name.endswith("bias") for name in decayed)
    assert [group["weight_decay"] for group in optimizers.adamw.param_groups] == [0.02, 0.0]
