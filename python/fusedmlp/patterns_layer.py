"""An MLP inside a larger forward (OPT, BART, Whisper layers), or in two children that it calls (MPNet).

Such a forward has attention and caches around the MLP, and rewriting it would tie this package to one version
of it. So it stays, and runs on a view of the layer in which the parts of the MLP are replaced (fuse_classes).
What they are, and that the hidden goes nowhere else, is read by tracing, with everything but the MLP as
opaque leaves. Where the trace breaks off behind the MLP (a branch on a dtype), a trial run with the original
parts has to agree too. Contexts in the forward stay; only within the MLP there may be none.
"""

from __future__ import annotations

import dis
import inspect
from dataclasses import replace
from typing import Optional

from torch import fx, nn

from .modules import MlpForm
from .patterns import NotFusable, Path, Site, child, function_activation, is_linear_like
from .patterns_modes import SURROUNDINGS
from .patterns_trace import Match, agreed, is_leaf, signature, trace


def layer_site(owner: nn.Module) -> Site:
    """The MLP inside `owner.forward`. Raises NotFusable if there is none, or none that can be replaced."""
    forward = inspect.unwrap(type(owner).forward)
    if not hasattr(forward, "__code__"):
        raise NotFusable("its forward is not a Python function")
    if any(op.opname in ("STORE_ATTR", "DELETE_ATTR") for op in dis.get_instructions(forward)):
        raise NotFusable("its forward changes the module")
    if "__class__" in forward.__code__.co_freevars:
        raise NotFusable("its forward calls super()")
    site = _read(owner, training=False)
    try:
        same = _read(owner, training=True) == site
    except NotFusable:
        same = False
    return site if same else replace(site, eval_only=True)


def _opaque(module: nn.Module) -> bool:
    """Children that hold one Linear may be half of the MLP; all others are leaves here."""
    return is_leaf(module) or not holds_one_linear(module)


def holds_one_linear(module: nn.Module) -> bool:
    children = [below for below in module._modules.values() if below is not None]
    return len(children) <= 4 and not is_linear_like(module) and sum(map(is_linear_like, children)) == 1


def _read(owner: nn.Module, training: bool) -> Site:
    sites = []
    for surroundings in SURROUNDINGS:
        with surroundings():
            sites.append(_read_once(owner, training))
    trial = any(site.needs_trial for site in sites)
    return agreed([replace(site, needs_trial=trial) for site in sites])


def _read_once(owner: nn.Module, training: bool) -> Site:
    parameters = signature(owner, "forward")
    graph, broken = trace(owner, "forward", parameters, training, _opaque)
    found: list[tuple[Match, Path, tuple]] = []
    reason: Optional[NotFusable] = None
    for node in graph.nodes:
        match = Match(owner, "forward", parameters, graph)
        try:
            found.append((match, *match.inside(node)))
        except NotFusable as why:
            reason = why if match.is_linear(node) and reason is None else reason
    if not found:
        raise NotFusable(str(broken)) if broken else reason or NotFusable("its forward calls no Linear")
    if len(found) > 1:
        raise NotFusable("its forward contains more than one MLP")
    match, down, (name, gate, up, order) = found[0]
    if len(up) == len(down) == 1:
        return _three(owner, match, up, down, name, order, needs_trial=broken is not None)
    if len(up) == len(down) == 2 and up[0] != down[0]:
        return _two_halves(owner, graph, match, up, down, gate, name, order, needs_trial=broken is not None)
    raise NotFusable("its Linears are neither its own nor those of two of its children")


def _three(
    owner: nn.Module, match: Match, up: Path, down: Path, name: str, order: str, needs_trial: bool
) -> Site:
    """Linear, activation and Linear are attributes of the layer, each to be replaced by name."""
    if order != "none":
        raise NotFusable("a gated MLP inside a larger forward")
    activation = match.activation or _function_attribute(owner, match.graph, name)
    if activation is None or len(activation) != 1:
        raise NotFusable("its forward calls the activation as a plain function")
    guarded = tuple(dict.fromkeys([up, down, *match.passed]))
    return Site(
        kind="layer",
        method="forward",
        slot="forward",
        form=MlpForm(activation=name, gate="none"),
        up=up,
        down=down,
        activation=activation,
        guarded=guarded,
        guard_types=tuple(type(child(owner, path)) for path in guarded),
        dropouts=tuple(match.dropouts),
        eval_only=match.eval_only,
        needs_trial=needs_trial,
    )


def _function_attribute(owner: nn.Module, graph: fx.Graph, name: str) -> Optional[Path]:
    """The attribute that holds the activation as a function, self.activation_fn = F.gelu; called once."""
    calls = [
        n for n in graph.nodes if n.op == "call_function" and function_activation(n.target, n.kwargs) == name
    ]
    if len(calls) != 1:
        return None
    names = inspect.unwrap(type(owner).forward).__code__.co_names
    held = [
        n for n, v in owner.__dict__.items() if n in names and callable(v) and function_activation(v) == name
    ]
    return (held[0],) if len(held) == 1 else None


def _two_halves(
    owner: nn.Module,
    graph: fx.Graph,
    match: Match,
    up: Path,
    down: Path,
    gate: Optional[Path],
    name: str,
    order: str,
    needs_trial: bool,
) -> Site:
    """One child is Linear and activation, another Linear and what follows; each is replaced as a whole."""
    halves = []
    for path in (up, down):
        module = owner._modules[path[0]]
        parameters = signature(module, "forward")
        half, broken = trace(module, "forward", parameters, training=owner.training)
        if broken:
            raise NotFusable(str(broken))
        halves.append(Match(module, "forward", parameters, half))
    upper, lower = halves
    upper.upper_half()
    _, post = lower.lower_half()
    paths = dict.fromkeys([(up[0],), (down[0],), up, down, *([gate] if gate else []), *match.passed])
    return Site(
        kind="pair",
        method="forward",
        slot="forward",
        form=MlpForm(activation=name, gate=order),
        up=up,
        down=down,
        gate=gate,
        activation=match.activation,
        guarded=tuple(paths),
        guard_types=tuple(type(child(owner, path)) for path in paths),
        dropouts=tuple(match.dropouts),
        eval_only=match.eval_only or upper.eval_only or lower.eval_only,
        parameters=tuple(lower.parameters),
        required=len(lower.placeholders),
        post=tuple((what, (down[0], *value) if what == "call" else value) for what, value in post),
        needs_trial=needs_trial,
    )
