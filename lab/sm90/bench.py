"""Checks and times the tiles of lab.cu beside cuBLAS: bench.py LIB.so check | pairs [NAME...] | products FILE.json"""
import ctypes
import json
import os
import statistics
import sys
import time

import torch

lib = ctypes.CDLL(os.path.abspath(sys.argv[1]))
lib.lab_name.restype = ctypes.c_char_p
P = ctypes.c_void_p


class Call(ctypes.Structure):  # mirrors lab.cu
    _fields_ = (
        [(n, ctypes.c_int) for n in ("rows", "columns", "k")]
        + [(n, P) for n in ("a", "b", "b_up", "bias", "bias_up", "out")]
        + [(n, ctypes.c_longlong) for n in ("lda", "ldb", "ldb_up", "ldo")]
        + [
            (n, ctypes.c_int)
            for n in ("act", "gated", "half", "overlaps_predecessor", "second", "sms")
        ]
        + [("alpha", ctypes.c_float), ("limit", ctypes.c_float), ("stream", P)]
    )


TILES = [
    dict(i=i, name=lib.lab_name(i).decode(), gated=bool(lib.lab_gated(i)), split=bool(lib.lab_split(i)))
    for i in range(lib.lab_count())
]
ACT = {
    n: i
    for i, n in enumerate("identity relu relu2 gelu gelu_tanh quick_gelu silu sigmoid swiglu_oai".split())
}
SMS = torch.cuda.get_device_properties(0).multi_processor_count


def ptr(t):
    return None if t is None else t.data_ptr()


def gemm(tile, a, b, out, b_up=None, bias=None, bias_up=None, act="identity", pdl=0, second=0):
    c = Call(
        a.shape[0],
        b.shape[0],
        a.shape[1],
        ptr(a),
        ptr(b),
        ptr(b_up),
        ptr(bias),
        ptr(bias_up),
        ptr(out),
        a.stride(0),
        b.stride(0),
        0 if b_up is None else b_up.stride(0),
        out.stride(0),
        ACT[act],
        int(b_up is not None),
        int(a.dtype == torch.float16),
        pdl,
        second,
        SMS,
        1.702,
        7.0,
        torch.cuda.current_stream().cuda_stream,
    )
    if lib.lab_gemm(tile["i"], ctypes.byref(c)):
        raise RuntimeError(f"{tile['name']} failed")


def f64(act, x):
    s = torch.sigmoid
    return dict(
        identity=lambda: x,
        relu=lambda: torch.relu(x),
        relu2=lambda: torch.relu(x) ** 2,
        gelu=lambda: torch.nn.functional.gelu(x),
        gelu_tanh=lambda: torch.nn.functional.gelu(x, approximate="tanh"),
        quick_gelu=lambda: x * s(1.702 * x),
        silu=lambda: x * s(x),
        sigmoid=lambda: s(x),
    )[act]()


def truth(a, b, b_up, bias, bias_up, act):
    g = a.double() @ b.double().T + (0 if bias is None else bias.double())
    if b_up is None:
        return f64(act, g)
    u = a.double() @ b_up.double().T + (0 if bias_up is None else bias_up.double())
    if act == "swiglu_oai":
        g = g.clamp(max=7.0)
        return g * torch.sigmoid(1.702 * g) * (u.clamp(-7, 7) + 1)
    return f64(act, g) * u


def check_one(tile, dtype, m, n, k, act, exact, bias, pad=8):
    d = "cuda"
    if exact:
        a = (torch.rand(m, k, device=d) < 3.0 / k).to(dtype) * torch.randint(-1, 2, (m, k), device=d).to(
            dtype
        )
        mk = lambda r, c: torch.randint(-1, 2, (r, c), device=d).to(dtype)
    else:
        a = torch.randn(m, k, device=d).to(dtype)
        mk = lambda r, c: (torch.randn(r, c, device=d) / k**0.5 * 1.5).to(dtype)
    b = mk(n, k)
    bu = mk(n, k) if tile["gated"] else None
    bi = mk(1, n)[0] * (1 if exact else k**0.5) if bias else None
    bui = mk(1, n)[0] * (1 if exact else k**0.5) if bias and tile["gated"] else None
    store = torch.full((m + 2, n + pad), 777.0, device=d, dtype=dtype)
    out = store[1 : m + 1, :n]
    gemm(tile, a, b, out, bu, bi, bui, act)
    torch.cuda.synchronize()
    t = truth(a, b, bu, bi, bui, act)
    guard = (store[0] == 777).all() and (store[m + 1] == 777).all() and (store[:, n:] == 777).all()
    if exact:
        ok = torch.equal(out.double(), t)
        err = (out.double() - t).abs().max().item()
    else:
        eps = torch.finfo(dtype).eps
        err = ((out.double() - t).norm() / t.norm()).item()
        ok = err < eps
    if not (ok and guard):
        bad = (out.double() - t).abs() > (0 if exact else 0.1)
        idx = bad.nonzero()
        print(
            "FAIL",
            tile["name"],
            "gated" if tile["gated"] else "plain",
            dtype,
            m,
            n,
            k,
            act,
            "exact" if exact else "random",
            "bias" if bias else "",
            "err",
            err,
            "guard",
            bool(guard),
            "bad",
            idx.shape[0],
            idx[:1].tolist(),
            idx[-1:].tolist(),
            flush=True,
        )
        return False
    return True


def check():
    torch.manual_seed(1)
    n = bad = 0
    for tile in TILES:
        for dtype in (torch.bfloat16, torch.float16):
            for m, nn, k in [
                (1, 8, 8),
                (1, 8, 72),
                (77, 104, 72),
                (256, 192, 256),
                (513, 1000, 328),
                (3000, 776, 1032),
            ]:
                if tile["split"] and k < 256:
                    continue
                act = "identity" if tile["split"] else "relu"
                bad += not check_one(tile, dtype, m, nn, k, act, True, m == 77)
                n += 1
            for act in ["identity"] if tile["split"] else [a for a in ACT if a != "swiglu_oai" or tile["gated"]]:
                bad += not check_one(tile, dtype, 700, 712, 520, act, False, True)
                n += 1
    print(f"check: {n - bad} of {n} passed", flush=True)
    return bad == 0


def graph_of(calls):
    """calls: functions that launch; one graph with all of them in order."""
    for c in calls:
        c()
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        for c in calls:
            c()
    return g


def time_all(named, rounds=7, reps=2):
    """named: {label: (graph, calls)}; medians in us a call of interleaved rounds."""
    t = {k: [] for k in named}
    for g, _ in list(named.values()) * 2:
        g.replay()
    torch.cuda.synchronize()
    for _ in range(rounds):
        for k, (g, n) in named.items():
            e0, e1 = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(20000)
            e0.record()
            for _ in range(reps):
                g.replay()
            e1.record()
            torch.cuda.synchronize()
            t[k].append(e0.elapsed_time(e1) * 1000 / (n * reps))
    return {k: statistics.median(v) for k, v in t.items()}


class Mlp:
    def __init__(self, name, gated, d_in, d_hidden, m, act, bias):
        self.name, self.gated, self.din, self.dh, self.m, self.act, self.bias = (
            name,
            gated,
            d_in,
            d_hidden,
            m,
            act,
            bias,
        )
        rows = (2 if gated else 1) * d_hidden
        bytes_ = 2 * (rows * d_in + d_in * d_hidden)
        self.sets = max(2, min(16, int(220e6 // bytes_) + 1))
        bf = torch.bfloat16
        self.x = torch.randn(m, d_in, device="cuda").to(bf)
        self.w1 = [(torch.randn(rows, d_in, device="cuda") / d_in**0.5).to(bf) for _ in range(self.sets)]
        self.w2 = [
            (torch.randn(d_in, d_hidden, device="cuda") / d_hidden**0.5).to(bf) for _ in range(self.sets)
        ]
        self.b1 = torch.randn(rows, device="cuda").to(bf) if bias else None
        self.b2 = torch.randn(d_in, device="cuda").to(bf) if bias else None
        self.h = torch.randn(m, d_hidden, device="cuda").to(bf)
        self.y = torch.empty(m, d_in, device="cuda", dtype=bf)
        self.big = torch.empty(m, rows, device="cuda", dtype=bf)

    def up(self, tile, s, **kw):
        w = self.w1[s]
        if self.gated:
            gemm(tile, self.x, w[: self.dh], self.h, w[self.dh :], act=self.act, **kw)
        else:
            gemm(tile, self.x, w, self.h, None, self.b1, act=self.act, **kw)

    def down(self, tile, s, **kw):
        gemm(tile, self.h, self.w2[s], self.y, None, self.b2, **kw)


SHAPES = {
    "geglu768_8k": (True, 768, 3072, 8192, "gelu", False),
    "geglu768_1k": (True, 768, 3072, 1024, "gelu", False),
    "bert768_1k": (False, 768, 3072, 1024, "gelu", True),
    "gelu1024_1k": (False, 1024, 4096, 1024, "gelu", True),
    "expert_1k": (True, 2048, 768, 1024, "silu", False),
    "geglu768_2k": (True, 768, 3072, 2048, "gelu", False),
    "geglu768_512": (True, 768, 3072, 512, "gelu", False),
    "geglu768_256": (True, 768, 3072, 256, "gelu", False),
    "llama8b_256": (True, 4096, 14336, 256, "silu", False),
    "bert768_8k": (False, 768, 3072, 8192, "gelu", True),
    "gelu1024_8k": (False, 1024, 4096, 8192, "gelu", True),
    "gelu4096_1k": (False, 4096, 4096, 1024, "gelu", True),
    "llama8b_1k": (True, 4096, 14336, 1024, "silu", False),
    "llama8b_8k": (True, 4096, 14336, 8192, "silu", False),
    "gemma2b_8k": (True, 2048, 16384, 8192, "gelu", False),
    "expert_8k": (True, 2048, 768, 8192, "silu", False),
}


def pairs(names, ups=2, downs=3):
    for name in names:
        mlp = Mlp(name, *SHAPES[name])
        n = mlp.sets
        graph = lambda f: (graph_of([lambda s=s: f(s) for s in range(n)]), n)
        t = {"up": {}, "down": {}}
        for tile in TILES:
            if tile["gated"] == mlp.gated and not tile["split"]:
                t["up"][tile["i"]] = graph(lambda s: mlp.up(tile, s))
            if not tile["gated"]:
                t["down"][tile["i"]] = graph(lambda s: mlp.down(tile, s))
        singles = {k: sorted((v, i) for i, v in time_all(t[k], rounds=4, reps=1).items()) for k in t}
        t = None
        show = lambda i: f"[{TILES[i]['name']}]"
        both = {}
        both["cublas up"] = graph(lambda s: torch.mm(mlp.x, mlp.w1[s].T, out=mlp.big))
        both["cublas down"] = graph(lambda s: torch.mm(mlp.h, mlp.w2[s].T, out=mlp.y))

        def cublas(s):
            torch.mm(mlp.x, mlp.w1[s].T, out=mlp.big)
            torch.mm(mlp.h, mlp.w2[s].T, out=mlp.y)

        both["cublas pair"] = graph(cublas)
        if mlp.bias and mlp.act == "gelu":
            both["_addmm_activation"] = graph(
                lambda s: torch.addmm(
                    mlp.b2, torch._addmm_activation(mlp.b1, mlp.x, mlp.w1[s].T, use_gelu=True), mlp.w2[s].T
                )
            )
        for _, u in singles["up"][:ups]:
            for _, d in singles["down"][:downs]:
                for pdl in (0, 1):

                    def run(s, u=u, d=d, pdl=pdl):
                        mlp.up(TILES[u], s, pdl=pdl)
                        mlp.down(TILES[d], s, pdl=pdl, second=1)

                    both[f"pair pdl{pdl} {show(u)} + {show(d)}"] = graph(run)
        us = time_all(both, rounds=7, reps=1)
        base = us["cublas pair"]
        print(f"== {name}: " + " ".join(f"{k} {v:.1f}" for k, v in us.items() if "pair pdl" not in k))
        for k in singles:
            print("   ", k, "  ".join(f"{v:.1f}{show(key)}" for v, key in singles[k][:5]))
        for v, k in sorted((v, k) for k, v in us.items() if "pair pdl" in k)[:8]:
            print(f"   {v:8.1f}  {v / base:.3f}  {k}")
        sys.stdout.flush()
        del mlp, both
        torch.cuda.empty_cache()


PRODUCTS = [(768, 3072), (1024, 4096), (4096, 4096), (4096, 14336), (2048, 16384), (2048, 768), (2048, 5632)]
ROWS = [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192]


SPLIT_ROWS = 1024  # up to which splits are measured


def products(path):
    """Every tile on both products of MLPs, gated and plain, for the cost model: microseconds, cold weights."""
    rows = []
    for d_in, d_hidden in PRODUCTS:
        for form in ("gated", "plain", "down"):
            gated = form == "gated"
            n, k = (d_in, d_hidden) if form == "down" else (d_hidden, d_in)
            wide = n * (2 if gated else 1)
            copies = max(2, min(16, int(220e6 // (2 * wide * k)) + 1))
            weights = [(torch.randn(wide, k, device="cuda") / k**0.5).bfloat16() for _ in range(copies)]
            for m in ROWS:
                if m * n * k * (2 if gated else 1) > 5e11:
                    continue
                x = torch.randn(m, k, device="cuda").bfloat16()
                out = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
                act = "identity" if form == "down" else "gelu"
                graphs = {}
                for tile in TILES:
                    if tile["gated"] == gated and (not tile["split"] or (form == "down" and m <= SPLIT_ROWS)):
                        graphs[tile["i"]] = (
                            graph_of(
                                [
                                    lambda w=w, tile=tile: gemm(
                                        tile, x, w[:n], out, w[n:] if gated else None, act=act, pdl=1
                                    )
                                    for w in weights
                                ]
                            ),
                            copies,
                        )
                full = torch.empty(m, wide, device="cuda", dtype=torch.bfloat16)
                graphs["cublas"] = (
                    graph_of([lambda w=w: torch.mm(x, w.T, out=full) for w in weights]),
                    copies,
                )
                us = {i: round(v, 2) for i, v in time_all(graphs, rounds=5, reps=1).items()}
                rows.append(
                    [form, m, n, k, [us.get(t["i"]) for t in TILES], us["cublas"]]
                )
    document = dict(
        made_by="lab/sm90/bench.py LIB.so products FILE.json",
        date=time.strftime("%Y-%m-%d"),
        device=torch.cuda.get_device_name(0),
        torch=torch.__version__,
        columns=[
            "form",
            "m",
            "n",
            "k",
            "microseconds of each tile of src/cuda/sm90/tiles.h and each split of split.h, null where not measured",
            "microseconds of cuBLAS without activation",
        ],
    )
    head = json.dumps(document, indent=1)[:-2]
    lines = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in rows)
    with open(path, "w") as file:
        file.write(head + ',\n "rows": [\n' + lines + "\n ]\n}\n")


if __name__ == "__main__":
    print(torch.cuda.get_device_name(0))
    what = sys.argv[2]
    t0 = time.time()
    if what == "check":
        sys.exit(0 if check() else 1)
    if what == "products":
        products(sys.argv[3])
    if what == "pairs":
        pairs(sys.argv[3:] or list(SHAPES))
    print(f"{time.time() - t0:.1f} s")
