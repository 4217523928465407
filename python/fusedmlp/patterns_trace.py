"""Reads a method of a module by symbolic tracing and finds the MLP in it.

The method runs once on torch.fx placeholders, on a stand-in for the module, so what is recognised is what the
code does, whatever the class is called: BertLayer.feed_forward_chunk, LlamaMLP.forward and a user's own class
are read the same way. It runs in evaluation and in training mode; where the two differ, fusing is for
evaluation only. Contexts inside it (patterns_modes) would be lost, so a method with any is left alone.
"""

from __future__ import annotations

import inspect
import operator
from collections import OrderedDict
from dataclasses import replace
from typing import Any, Callable, Iterable, Optional

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import patterns_modes
from .modules import MlpForm, hooks_for_all
from .patterns import (
    NotFusable,
    Path,
    Site,
    child,
    function_activation,
    is_dropout,
    is_identity,
    is_linear_like,
    linear_layout,
    module_activation,
    qualified_name,
)

_ADD = (operator.add, operator.iadd, torch.add)
_MUL = (operator.mul, operator.imul, torch.mul)
_DROPOUT = (F.dropout, torch.dropout)
# Reading a shape or a dtype changes nothing.
_HARMLESS_FUNCTIONS = (getattr, operator.getitem)
_HARMLESS_METHODS = ("size", "dim")


class _Leaf:
    """Stands for a child that is called as a whole; everything else is read from the child."""

    def __init__(self, module: nn.Module, target: str, tracer: fx.proxy.TracerBase) -> None:
        self.__module, self.__target, self.__tracer = module, target, tracer

    def __call__(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        return self.__tracer.create_proxy("call_module", self.__target, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__module, name)
        if isinstance(value, torch.Tensor):
            return self.__tracer.create_proxy("get_attr", f"{self.__target}.{name}", (), {})
        return value


def is_leaf(module: nn.Module) -> bool:
    if is_linear_like(module) or not module._modules or "forward" in module.__dict__:
        return True
    if isinstance(module, torch.jit.ScriptModule) or type(module).__call__ is not nn.Module.__call__:
        return True
    in_torch = type(module).__module__.startswith("torch.nn.")
    return in_torch and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def _stand_in(
    module: nn.Module,
    tracer: fx.proxy.TracerBase,
    training: bool,
    leaf: Callable[[nn.Module], bool],
    prefix: str = "",
) -> nn.Module:
    """A shallow copy to run a method on: the children are leaves or copies too, and no hook is attached.

    Nothing that the method does to itself or its children reaches the user's module.
    """
    copy = object.__new__(type(module))
    copy.__dict__.update(module.__dict__)
    copy.__dict__.update({name: OrderedDict() for name in module.__dict__ if name.endswith("_hooks")})
    copy.__dict__["training"] = training
    for store in ("_parameters", "_buffers"):
        copy.__dict__[store] = {
            name: value if value is None else tracer.create_proxy("get_attr", prefix + name, (), {})
            for name, value in module.__dict__[store].items()
        }
    children: dict[str, Any] = {}
    for name, below in module._modules.items():
        if below is None:
            children[name] = None
        elif leaf(below):
            children[name] = _Leaf(below, prefix + name, tracer)
        else:
            children[name] = _stand_in(below, tracer, training, leaf, f"{prefix}{name}.")
    copy.__dict__["_modules"] = children
    return copy


def trace(
    owner: nn.Module,
    method: str,
    parameters: dict[str, inspect.Parameter],
    training: bool,
    leaf: Callable[[nn.Module], bool] = is_leaf,
) -> tuple[fx.Graph, Optional[NotFusable]]:
    """What `method` does to its required parameters; optional ones keep their defaults.

    Returns the graph and None, or the graph up to where reading it failed and why.
    """
    if hooks_for_all():
        raise NotFusable("hooks for all modules are registered, which would not fire")
    graph = fx.Graph()
    tracer = patterns_modes.Tracer(graph)
    modes = patterns_modes.current()
    required = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty]
    inputs = [tracer.create_proxy("placeholder", name, (), {}) for name in required]
    try:
        result = getattr(type(owner), method)(_stand_in(owner, tracer, training, leaf), *inputs)
        graph.output(tracer.create_arg(result))
    except Exception as error:  # whatever a user's method does when it meets placeholders
        text = " ".join(str(error).split()) or type(error).__name__
        text = text if len(text) <= 90 else text[:87] + "..."
        return graph, NotFusable(f"its {method} can not be read symbolically ({text})")
    left = patterns_modes.changed((modes, patterns_modes.current()))
    return graph, NotFusable(f"its {method} changes {left} and leaves it so") if left else None


def whole(owner: nn.Module, method: str, parameters: dict, training: bool) -> list[Match]:
    """A match of all that `method` does under each of patterns_modes.SURROUNDINGS."""
    matches: list[Match] = []
    for surroundings in patterns_modes.SURROUNDINGS:
        with surroundings():
            graph, broken = trace(owner, method, parameters, training)
        if broken is not None:
            raise NotFusable(f"under torch.autocast {broken}") if matches else broken
        matches.append(Match(owner, method, parameters, graph))
    return matches


def agreed(found: list) -> Any:
    """The one thing that was found under all surroundings."""
    if any(other != found[0] for other in found):
        raise NotFusable("its forward does something else under torch.autocast or inference mode")
    return found[0]


def signature(owner: nn.Module, method: str) -> dict[str, inspect.Parameter]:
    """Positional parameters of a method by name, without self. A call that gives others is not fused."""
    parameters = list(inspect.signature(getattr(type(owner), method)).parameters.values())[1:]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {parameter.name: parameter for parameter in parameters if parameter.kind in positional}


def trace_site(owner: nn.Module, method: str = "forward") -> Site:
    """The MLP that `method` of `owner` computes. Raises NotFusable, with the reason, if it is no MLP."""
    parameters = signature(owner, method)

    def read(training: bool) -> Site:
        return agreed([match.site() for match in whole(owner, method, parameters, training)])

    site = read(training=False)
    try:
        same = read(training=True) == site
    except NotFusable:
        same = False
    return site if same else replace(site, eval_only=True)


class Match:
    """Walks a graph backwards: post steps, second Linear, activation, first Linear, pre steps."""

    def __init__(self, owner: nn.Module, method: str, parameters: dict, graph: fx.Graph) -> None:
        self.owner, self.method, self.parameters, self.graph = owner, method, parameters, graph
        self.placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        self.used: set[fx.Node] = set(self.placeholders)
        self.passed: list[Path] = []  # children that the fused call passes over
        self.dropouts: list[Path] = []
        self.activation: Optional[Path] = None
        self.eval_only = False
        self.identity = False  # an nn.Identity was passed over

    def site(self) -> Site:
        post: list[tuple[str, Any]] = []
        down_node = self._walk_post(self._returned(), post)
        hidden = self._skip_inert(self._input(down_node))
        form_name, gate, up, x_node, order = self._hidden(hidden)
        pre, x = self._walk_pre(x_node)
        self._nothing_else()
        down = self._path(down_node)
        separate = order == "separate"
        linears = [up, down, gate] if separate else [up, down]
        guarded = self._guarded([*linears, *self.passed], post, pre)
        return Site(
            kind="traced",
            method=self.method,
            slot=self.method,
            form=MlpForm(activation=form_name, gate=order),
            up=up,
            down=down,
            gate=gate if separate else None,
            activation=self.activation,
            guarded=guarded,
            guard_types=tuple(type(child(self.owner, path)) for path in guarded),
            dropouts=tuple(self.dropouts),
            eval_only=self.eval_only,
            parameters=tuple(self.parameters),
            required=sum(p.default is inspect.Parameter.empty for p in self.parameters.values()),
            x=x,
            pre=pre,
            post=tuple(reversed(post)),
        )

    def upper_half(self) -> tuple[str, Optional[Path], Path, str]:
        """(activation, gate path, up path, gate order) of a method that is the MLP up to its hidden."""
        value = self._skip_inert(self._returned())
        form, gate, up, x_node, order = self._hidden(value)
        if x_node is not self.placeholders[0] or len(self.placeholders) != 1:
            raise NotFusable("its first half does more than a Linear and an activation")
        self._nothing_else()
        return form, gate if order == "separate" else None, up, order

    def lower_half(self) -> tuple[Path, tuple[tuple[str, Any], ...]]:
        """(down path, post steps) of a method that takes the hidden as its first parameter."""
        post: list[tuple[str, Any]] = []
        node = self._walk_post(self._returned(), post)
        if self._skip_inert(self._any_input(node)) is not self.placeholders[0]:
            raise NotFusable("its second half does more before its Linear than dropout")
        if len(self.placeholders[0].users) != 1:
            raise NotFusable("its second half uses the hidden twice")
        self._nothing_else()
        return self._path(node), tuple(reversed(post))

    def inside(self, node: fx.Node) -> tuple[Path, tuple[str, Optional[Path], Path, str]]:
        """(down path, (activation, gate path, up path, gate order)) of an MLP that ends at this Linear."""
        if not self.is_linear(node):
            raise NotFusable("not a Linear")
        form, gate, up, _, order = self._hidden(self._skip_inert(self._input(node)))
        calls = [n.target for n in self.graph.nodes if n.op == "call_module"]
        paths = [self._path(node), up, *([gate] if order == "separate" else []), *self.passed]
        self._same_modes([node, *self.used.difference(self.placeholders)])
        if any(calls.count(".".join(path)) != 1 for path in paths):
            raise NotFusable("a part of the MLP is called more than once")
        return self._path(node), (form, gate if order == "separate" else None, up, order)

    def _returned(self) -> fx.Node:
        output = next(node for node in self.graph.nodes if node.op == "output")
        value = output.args[0]
        if not isinstance(value, fx.Node):
            raise NotFusable("its forward returns more than one tensor")
        self.used.add(output)
        return value

    # The walk.

    def _walk_post(self, node: fx.Node, post: list[tuple[str, Any]]) -> fx.Node:
        while True:
            self.used.add(node)
            if self.is_linear(node):
                return node
            if node.op == "call_module":
                if self._module(node) is None:
                    raise NotFusable(f"{node.target} is not a child of this module")
                post.append(("call", self._path(node)))
                node = self._input(node)
            elif (
                node.op == "call_function" and node.target in _ADD and len(node.args) == 2 and not node.kwargs
            ):
                index = next((i for i, arg in enumerate(node.args) if arg in self.placeholders), None)
                if index is None or not isinstance(node.args[1 - index], fx.Node):
                    raise NotFusable("something other than its input is added after the second Linear")
                post.append(("add", self.placeholders.index(node.args[index])))
                node = self._only(node.args[1 - index])
            elif node.op == "call_function" and node.target in _DROPOUT:
                self.eval_only = True
                node = self._only(node.args[0])
            else:
                raise NotFusable(self._unknown(node, "after the second Linear"))

    def _skip_inert(self, node: fx.Node) -> fx.Node:
        while True:
            module = self._module(node)
            if module is not None and (is_dropout(module) or is_identity(module)):
                if is_dropout(module):
                    self.dropouts.append(self._path(node))
                self.identity |= is_identity(module)
                self.passed.append(self._path(node))
                self.used.add(node)
                node = self._input(node)
            elif node.op == "call_function" and node.target in _DROPOUT:
                self.eval_only = True
                self.used.add(node)
                node = self._only(node.args[0])
            else:
                return node

    def _hidden(self, node: fx.Node) -> tuple[str, Optional[Path], Path, fx.Node, str]:
        """(activation, gate path, up path, input node, gate order) of what enters the second Linear."""
        plain = self._activation(node)
        if plain is None and self.identity and self.is_linear(node):
            plain = "identity", node
        if plain is not None:
            name, inner = plain
            inner = self._skip_inert(inner)
            if not self.is_linear(inner):
                raise NotFusable(self._unknown(inner, "before the activation"))
            self.used.add(inner)
            return name, None, self._path(inner), self._any_input(inner), "none"
        if node.op == "call_function" and node.target in _MUL and len(node.args) == 2 and not node.kwargs:
            if all(isinstance(arg, fx.Node) for arg in node.args):
                return self._gated(node)
        raise NotFusable(self._unknown(node, "between the Linears"))

    def _gated(self, node: fx.Node) -> tuple[str, Optional[Path], Path, fx.Node, str]:
        self.used.add(node)
        for first, second in (node.args, reversed(node.args)):
            found = self._activation(first)
            if found is not None:
                name, gate_value, up_value = found[0], found[1], second
                break
        else:
            name, (gate_value, up_value) = "identity", node.args
        gate, up = self._half(gate_value), self._half(up_value)
        if gate is None or up is None:
            wrong = gate_value if gate is None else up_value
            raise NotFusable(self._unknown(wrong, "in one of the gated halves"))
        (gate_linear, gate_part), (up_linear, up_part) = gate, up
        if gate_linear is up_linear and {gate_part, up_part} == {0, 1}:
            order = "first" if gate_part == 0 else "last"
            path = self._path(up_linear)
            return name, None, path, self._any_input(up_linear), order
        if gate_part is None and up_part is None and gate_linear is not up_linear:
            if self._any_input(gate_linear) is not self._any_input(up_linear):
                raise NotFusable("gate and up have different inputs")
            return (
                name,
                self._path(gate_linear),
                self._path(up_linear),
                self._any_input(up_linear),
                "separate",
            )
        raise NotFusable("gate and up are not two halves of one Linear")

    def _half(self, node: fx.Node) -> Optional[tuple[fx.Node, Optional[int]]]:
        """(Linear node, None) or (Linear node, half index) behind a gated operand."""
        if len(node.users) != 1:
            return None
        if self.is_linear(node):
            self.used.add(node)
            return node, None
        if node.op != "call_function" or node.target is not operator.getitem or node.args[1] not in (0, 1):
            return None
        split = node.args[0]
        if not isinstance(split, fx.Node) or not self._splits_in_two(split):
            return None
        linear = split.args[0]
        if not self.is_linear(linear) or len(linear.users) != 1:
            return None
        self.used.update((node, split, linear))
        return linear, node.args[1]

    def _splits_in_two(self, node: fx.Node) -> bool:
        dim = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
        size = node.args[1] if len(node.args) > 1 else None
        if dim != -1 or len(node.users) != 2 or not self.is_linear(node.args[0]):
            return False
        if node.target in ("chunk", torch.chunk):
            return size == 2
        if node.target in ("split", torch.split):
            linear = self._module(node.args[0])
            rows = linear.weight.shape[1 if linear_layout(linear) else 0]
            return rows % 2 == 0 and size in (rows // 2, [rows // 2] * 2, (rows // 2,) * 2)
        return False

    def _activation(self, node: fx.Node) -> Optional[tuple[str, fx.Node]]:
        """(name, input) where the node is an activation that is known."""
        if node.op == "call_module" and not self.is_linear(node):
            name = module_activation(self._module(node))
            if name is None:
                return None
            self.activation = self._path(node)
            self.passed.append(self.activation)
            self.used.add(node)
            return name, self._input(node)
        if node.op == "call_function" and node.args and isinstance(node.args[0], fx.Node):
            name = function_activation(node.target, node.kwargs) if len(node.args) == 1 else None
            squared = node.target is torch.square or (
                node.target in (operator.pow, torch.pow) and node.args[1] == 2
            )
            inner = node.args[0]
            if name is None and squared and len(node.users) == 1:
                found = self._activation(inner)
                if found is not None and found[0] == "relu":
                    self.used.add(node)
                    return "relu2", found[1]
            if name is not None:
                self.used.add(node)
                return name, self._only(inner)
        if node.op == "call_method" and node.target in ("relu", "sigmoid") and len(node.args) == 1:
            self.used.add(node)
            return node.target, self._only(node.args[0])
        return None

    def _walk_pre(self, node: fx.Node) -> tuple[tuple[Path, ...], int]:
        pre: list[Path] = []
        while node not in self.placeholders:
            if node.op != "call_module" or self.is_linear(node):
                raise NotFusable(self._unknown(node, "before the first Linear"))
            self.used.add(node)
            pre.append(self._path(node))
            node = self._any_input(node)
        index = self.placeholders.index(node)
        return tuple(reversed(pre)), index

    def _nothing_else(self) -> None:
        for node in self.graph.nodes:
            if node in self.used:
                continue
            if node.op == "call_function" and node.target in _HARMLESS_FUNCTIONS:
                continue
            if node.op == "get_attr" or (node.op == "call_method" and node.target in _HARMLESS_METHODS):
                continue
            raise NotFusable(self._unknown(node, "beside the MLP"))
        self._same_modes(self.graph.nodes)

    def _same_modes(self, nodes: Iterable[fx.Node]) -> None:
        mode = patterns_modes.changed_between(nodes)
        if mode is not None:
            raise NotFusable(f"its {self.method} changes {mode}, which a fused call would not")

    # Nodes.

    def _module(self, node: fx.Node) -> Optional[nn.Module]:
        if node.op != "call_module":
            return None
        try:
            return child(self.owner, self._path(node))
        except (KeyError, AttributeError):
            return None

    def _path(self, node: fx.Node) -> Path:
        return tuple(node.target.split("."))

    def is_linear(self, node: Any) -> bool:
        module = self._module(node) if isinstance(node, fx.Node) else None
        return module is not None and is_linear_like(module)

    def _any_input(self, node: fx.Node) -> fx.Node:
        if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
            raise NotFusable(f"{node.target} takes more than one input")
        return node.args[0]

    def _input(self, node: fx.Node) -> fx.Node:
        return self._only(self._any_input(node))

    def _only(self, node: fx.Node) -> fx.Node:
        """The node, if its value is used once: a value used elsewhere too has to exist in memory."""
        if node not in self.placeholders and len(node.users) != 1:
            raise NotFusable(f"the value of {node.name} is used more than once")
        return node

    def _unknown(self, node: fx.Node, where: str) -> str:
        module = self._module(node)
        if module is not None:
            if is_linear_like(module):
                return f"no activation {where}" if "between" in where else f"a Linear, {node.target}, {where}"
            return f"{node.target} ({qualified_name(type(module))}) {where} is not known"
        if node.op == "placeholder":
            return "there are not two Linears one after the other"
        name = (
            node.target
            if isinstance(node.target, str)
            else getattr(node.target, "__name__", str(node.target))
        )
        return f"{name} {where} is not known"

    def _guarded(
        self, passed: list[Path], post: list[tuple[str, Any]], pre: tuple[Path, ...]
    ) -> tuple[Path, ...]:
        """Every child that is passed over, and every container between the owner and a child."""
        leaves = [*passed, *(step[1] for step in post if step[0] == "call"), *pre]
        containers = {path[:depth] for path in leaves for depth in range(1, len(path))}
        ordered = dict.fromkeys([*sorted(containers), *passed])
        return tuple(path for path in ordered if child(self.owner, path) is not None)
