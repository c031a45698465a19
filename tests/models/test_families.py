"""A small model of each timm family: layer groups contain all parameters, and only trainable groups change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.models.backbones import backbone_groups, create_backbone
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.phases import trainable_groups
from mask_lightning.settings.optim import PhaseSettings

SIZE = 64
FAMILIES = {
    "resnet": "test_resnet",
    "ecaresnet": "ecaresnet26t",
    "efficientnet": "test_efficientnet",
    "mobilenet": "mobilenetv3_small_050",
    "convnext": "test_convnext",
    "vit": "test_vit",
    "swin": "swin_tiny_patch4_window7_224",
    "nfnet": "test_nfnet",
    "regnet": "regnetx_002",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_contain_each_parameter_once_in_the_order_of_use(family: str) -> None:
    backbone = create_backbone(FAMILIES[family], image_size=SIZE).eval()
    groups = backbone_groups(backbone)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in backbone.named_parameters())
    group_of = {name: group for group, keys in groups.items() for name in keys}
    used: list[str] = []
    for module_name, module in backbone.named_modules():
        for name, _ in module.named_parameters(prefix=module_name, recurse=False):
            if module is not backbone:  # position embeddings of a transformer are used later than its stem
                module.register_forward_pre_hook(lambda *_, group=group_of[name]: used.append(group))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, SIZE, SIZE))
    changes = [group for i, group in enumerate(used) if i == 0 or used[i - 1] != group]
    assert changes == list(groups)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_groups_are_trained(family: str) -> None:
    """Gradients, updates with weight decay, running statistics, and the graph: nothing below the open groups."""
    torch.manual_seed(0)
    network = MultiTaskNetwork(FAMILIES[family], {"mask": 3, "age": 3}, image_size=SIZE)
    with torch.no_grad():
        for parameter in network.parameters():  # parameters that start at 0 would block gradients
            parameter.add_(0.05 * torch.randn_like(parameter))
    groups = network.layer_groups()
    phase = PhaseSettings(epochs=1, unfreeze={"last": 2})
    opened, frozen = list(groups)[-3:], list(groups)[:-3]
    assert trainable_groups(phase, list(groups)) == tuple(opened)
    learning = {name for group in opened for name in groups[group]}

    module = cast(Any, network.train())
    PhasedFinetuning([phase], groups).on_train_epoch_start(cast(Any, SimpleNamespace(current_epoch=0)), module)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph: dict[str, bool] = {}
    for module_name, layer in network.named_modules():
        own = {f"{module_name}.{name}" for name, _ in layer.named_parameters(recurse=False)}
        if own and own.isdisjoint(learning) and not list(layer.children()):
            layer.register_forward_hook(lambda *call, name=module_name: graph.update({name: call[-1].requires_grad}))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=0.5)
    outputs = network(torch.randn(4, 3, SIZE, SIZE))
    sum(F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])) for logits in outputs.values()).backward()
    optimizer.step()

    assert frozen
    assert not any(graph.values())
    named = dict(network.named_parameters())
    assert {name for name, parameter in named.items() if parameter.grad is not None} == learning
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed & named.keys() == learning
    layers = {name.rpartition(".")[0] for name in learning}
    assert {name.rpartition(".")[0] for name in changed - named.keys()} <= layers
    statistics = {name for name in before if "running_" in name and name.rpartition(".")[0] in layers}
    assert statistics <= changed
